"""Characters to token ids and back: the only place that does it, for trainer and server alike."""

import unicodedata
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Self

import numpy as np
import numpy.typing as npt

from serving import checks
from serving.errors import InvalidArgument
from serving.quoting import quoted
from serving.text_files import normalise as normalise  # noqa: PLC0414 - a part of this module, too

BOUNDARY = 0
"""The token that starts every string and, predicted, ends it."""
MAX_ALPHABET = 4096
"""Characters that a model may know."""


COMPOSED = 4
"""Code points that become one in the composed form, at most."""


def normalise_up_to(most: int, text: str) -> str | None:
    """`normalise`, or None if that has more than `most` characters.

    A text that is far too long is not composed at all.
    """
    if len(text) > COMPOSED * most:
        return None
    composed = normalise(text)
    return composed if len(composed) <= most else None


def is_normalized(text: str) -> bool:
    """Whether a text is in NFC."""
    return unicodedata.is_normalized("NFC", text)


def normalized_length(text: str) -> int:
    """Length of the longest prefix that is in NFC; every longer prefix is not."""
    lengths = range(1, len(text) + 1)
    return bisect_left(lengths, True, key=lambda length: not is_normalized(text[:length]))


@cache
def composing_starters() -> frozenset[str]:
    """Characters of combining class 0 that may become one character with the one before them.

    Only planes 0 and 1 are searched: no character of another plane decomposes into two.
    """
    found = {*map(chr, range(0x1161, 0x1176)), *map(chr, range(0x11A8, 0x11C3))}  # Hangul
    for composed in map(chr, range(0x20000)):
        parts = unicodedata.decomposition(composed).split()
        if len(parts) == 2 and not parts[0].startswith("<") and is_normalized(composed):
            found.add(chr(int(parts[1], 16)))
    return frozenset(character for character in found if not unicodedata.combining(character))


def may_change(character: str) -> bool:
    """Whether NFC may change a text because of this character, alone or after others."""
    if character < "\u0300":  # the first combining mark
        return False
    if unicodedata.combining(character) or not is_normalized(character):
        return True
    return character in composing_starters()


def describe(character: str) -> str:
    """A character for an error message: quoted if it can be seen, always with its code point."""
    point = f"U+{ord(character):04X}"
    name = unicodedata.name(character, "")
    shown = f"'{character}' " if character.isprintable() and not character.isspace() else ""
    return f"{shown}({point}{', ' + name if name else ''})"


class UnknownCharacter(InvalidArgument):
    """A character outside the alphabet, with its 0-based position in the normalised text."""

    def __init__(self, character: str, position: int) -> None:
        super().__init__(
            "text",
            f"the character {describe(character)} at position {position} is not in the "
            "model's alphabet",
        )
        self.position = position


@dataclass(frozen=True)
class Vocabulary:
    """An alphabet of single code points; token id `i + 1` is `alphabet[i]`, id 0 the boundary."""

    alphabet: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.alphabet:
            raise InvalidArgument("alphabet", "is empty")
        for character in self.alphabet:
            if not isinstance(character, str) or len(character) != 1:
                raise InvalidArgument(
                    "alphabet", f"{quoted(str(character))} is not a single code point"
                )
        checks.sendable("alphabet", "".join(self.alphabet))
        if len(set(self.alphabet)) != len(self.alphabet):
            raise InvalidArgument("alphabet", "holds a character twice")

    def __len__(self) -> int:
        """V: the alphabet and the boundary."""
        return len(self.alphabet) + 1

    @classmethod
    def of(cls, strings: Iterable[str]) -> Self:
        """The characters of all the strings, in code-point order."""
        return cls(tuple(sorted(set().union(*strings))))

    @cached_property
    def max_bytes(self) -> int:
        """The longest of its characters, in bytes of UTF-8."""
        return max(len(character.encode("utf-8")) for character in self.alphabet)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {character: i for i, character in enumerate(self.alphabet, start=1)}

    @cached_property
    def is_always_normalized(self) -> bool:
        """Whether every text of these characters is in NFC."""
        return not any(map(may_change, self.alphabet))

    def encode(self, text: str) -> list[int]:
        """Token ids of normalised text, boundaries left out.

        Raises:
            UnknownCharacter: at the first character outside the alphabet.
        """
        try:
            return [self._ids[character] for character in text]
        except KeyError:
            position = self.unknown(text)[0]
            raise UnknownCharacter(text[position], position) from None

    def unknown(self, text: str) -> list[int]:
        """Positions of the characters of normalised text that are not in the alphabet."""
        return [position for position, c in enumerate(text) if c not in self._ids]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids, none of them the boundary."""
        return "".join([self.alphabet[i - 1] for i in ids])

    def code_points(self, ids: npt.NDArray[np.int32]) -> npt.NDArray[np.uint32]:
        """Characters of token ids, as numbers; 0 for the boundary's."""
        found: npt.NDArray[np.uint32] = self._codes[ids]
        return found

    @cached_property
    def _codes(self) -> npt.NDArray[np.uint32]:
        """Each token's code point; the boundary's is 0."""
        return np.array([0, *map(ord, self.alphabet)], "<u4")


def texts(code_points: npt.NDArray[np.uint32], lengths: Sequence[int]) -> list[str]:
    """Texts of rows of characters, [B, W], of which so many count: [B]."""
    width = code_points.shape[1]
    every = code_points.tobytes().decode("utf-32-le", "surrogatepass")
    begins = range(0, len(every), width)
    return [every[begin : begin + n] for begin, n in zip(begins, lengths, strict=True)]
