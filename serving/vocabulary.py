"""Characters to token ids and back: the only place that does it, for trainer and server alike."""

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Self

import numpy as np
import numpy.typing as npt

from serving import checks
from serving.errors import InvalidArgument

BOUNDARY = 0
"""The token that starts every string and, predicted, ends it."""


COMPOSED = 4
"""Code points that become one in the composed form, at most."""


LONG = 256
"""Code points from which on marks are put in order here."""


def normalise(text: str) -> str:
    """Text in Unicode's composed form (NFC), the form in which every model counts characters."""
    if len(text) > LONG and not unicodedata.is_normalized("NFC", text):
        text = decomposed(text)
    return unicodedata.normalize("NFC", text)


def decomposed(text: str) -> str:
    """Text in Unicode's decomposed form (NFD), in a time that grows with its length.

    The library's own grows with the square of the marks on one letter, unless they are in order.
    """
    characters = [c for one in text for c in unicodedata.normalize("NFD", one)]
    runs = groupby(characters, key=lambda character: unicodedata.combining(character) > 0)
    return "".join(
        [
            c
            for is_marks, run in runs
            for c in (sorted(run, key=unicodedata.combining) if is_marks else run)
        ]
    )


def normalise_up_to(most: int, text: str) -> str | None:
    """`normalise`, or None if that has more than `most` characters.

    A text that is far too long is not composed at all.
    """
    if len(text) > COMPOSED * most:
        return None
    composed = normalise(text)
    return composed if len(composed) <= most else None


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
                raise InvalidArgument("alphabet", f"{character!r} is not a single code point")
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
