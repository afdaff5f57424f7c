"""What is in a file of lines: for a person to read before training on it."""

import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from serving.vocabulary import describe
from trainer.data.lines import Lines

BAR = 50
EXAMPLES = 5


@dataclass(frozen=True)
class Inspection:
    """Counts over the lines of a file.

    Attributes:
        lines: lines that are not blank.
        distinct: different ones.
        blank: blank ones.
        lengths: how many distinct lines have each number of characters.
        alphabet: how often each character stands in distinct lines.
        odd: characters that are neither letters, marks nor digits, nor a space, hyphen or apostrophe.
        alike: distinct lines that differ in case or spacing alone, in groups.
    """

    lines: int
    distinct: int
    blank: int
    lengths: Counter[int]
    alphabet: Counter[str]
    odd: tuple[str, ...]
    alike: tuple[tuple[str, ...], ...]


def inspect(lines: Lines) -> Inspection:
    """Count."""
    distinct = list(dict.fromkeys(lines.strings))
    alphabet = Counter(character for string in distinct for character in string)
    return Inspection(
        lines=len(lines.strings),
        distinct=len(distinct),
        blank=lines.blank,
        lengths=Counter(map(len, distinct)),
        alphabet=alphabet,
        odd=tuple(sorted(filter(is_odd, alphabet))),
        alike=alike(distinct),
    )


def is_odd(character: str) -> bool:
    """Whether a character is one that names and words seldom have."""
    return unicodedata.category(character)[0] not in "LMN" and character not in " -'\u2019"


def alike(distinct: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """Groups of strings that are the same but for case and spacing."""
    groups: dict[str, list[str]] = {}
    for string in distinct:
        groups.setdefault("".join(string.casefold().split()), []).append(string)
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)


def report(found: Inspection) -> str:
    """Lines for a person."""
    repeats = found.lines - found.distinct
    lines = [
        f"{found.lines:,} lines, {found.distinct:,} distinct, {repeats:,} repeats, "
        f"{found.blank:,} blank",
        "",
        "characters a line",
        *bars({str(length): found.lengths[length] for length in sorted(found.lengths)}),
        "",
        f"alphabet of {len(found.alphabet):,}, the most frequent first",
        *alphabet_lines(found.alphabet),
        "",
        f"odd characters: {', '.join(map(describe, found.odd)) or 'none'}",
        f"the same but for case or spacing: {len(found.alike):,} groups",
        *(f"  {' | '.join(group)}" for group in found.alike[:EXAMPLES]),
    ]
    return "\n".join(lines)


def bars(counts: dict[str, int]) -> list[str]:
    """A bar a row, the longest of 50 characters."""
    most = max(counts.values(), default=0)
    width = max(map(len, counts), default=0)
    return [
        f"  {name:>{width}}  {'█' * -(-BAR * count // most):<{BAR}}  {count:,}"
        for name, count in counts.items()
    ]


def alphabet_lines(alphabet: Counter[str], width: int = 8) -> list[str]:
    """Characters with their counts, eight a line; the rarest are left out of a large alphabet."""
    entries = [f"{character} {count:,}" for character, count in alphabet.most_common(10 * width)]
    return [
        "  " + "".join(f"{entry:<12}" for entry in entries[start : start + width]).rstrip()
        for start in range(0, len(entries), width)
    ]
