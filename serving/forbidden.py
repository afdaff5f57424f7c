"""The operator's list of forbidden substrings, compiled for every served model."""

import logging
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from serving.constraints.automaton import Automaton, everything_without
from serving.constraints.pattern import TooComplex
from serving.errors import InvalidArgument
from serving.manifest import Manifest
from serving.quoting import printable, quoted
from serving.text_files import Line
from serving.vocabulary import BOUNDARY, describe

log = logging.getLogger(__name__)

FLAG = "--forbidden"
MAX_WARNINGS = 20
"""Maximum number of entries that cannot match and are logged individually."""

Alphabet = tuple[str, ...]


class ForbiddenList:
    """Substrings that no generated string may contain, for all clients.

    Entries are literal and case-sensitive.

    Args:
        lines: the entries.
        path: the file of the entries, for messages.
    """

    def __init__(self, lines: Sequence[Line] = (), path: Path | None = None) -> None:
        self._lines = lines
        self._name = printable(str(path)) if path else "the list"
        self._automata: dict[Alphabet, Automaton | None] = {}
        self._last_warned: set[tuple[Alphabet, int]] = set()

    def automaton(self, alphabet: Alphabet) -> Automaton | None:
        """Return the automaton of the texts without any entry; None if no entry can match.

        The list must have been compiled for the alphabet.
        """
        return self._automata[alphabet] if self._lines else None

    def compile(self, name: str, manifest: Manifest) -> None:
        """Compile the list for a model's alphabet, unless that has been done.

        Raises:
            InvalidArgument: the list is too large, or forbids every string of the model.
        """
        alphabet = manifest.alphabet
        if not self._lines or alphabet in self._automata:
            return
        known = set(alphabet)
        entries = [line.text for line in self._lines if known.issuperset(line.text)]
        automaton = None
        if entries:
            try:
                automaton = everything_without(entries, alphabet)
            except TooComplex as error:
                raise InvalidArgument(
                    FLAG,
                    f"{self._name} is too large for the model {name}: it {error.description}; "
                    "shorten it",
                ) from None
            if (automaton.next[0, BOUNDARY + 1 :] == len(automaton.next)).all():
                raise InvalidArgument(
                    FLAG,
                    f"{self._name} leaves no string possible for the model {name}: it has every "
                    "character of the model's alphabet as an entry",
                )
        self._automata[alphabet] = automaton

    def retain(self, alphabets: Collection[Alphabet]) -> None:
        """Drop the automata of all other alphabets."""
        for alphabet in self._automata.keys() - alphabets:
            del self._automata[alphabet]

    def warn(self, manifests: Iterable[Manifest]) -> None:
        """Log the entries that cannot occur in any string of these models, if the models have changed."""
        served = {(manifest.alphabet, manifest.max_length) for manifest in manifests}
        if served == self._last_warned:
            return
        self._last_warned = served
        found = list(self._unmatched(served))
        for line, reason in found[:MAX_WARNINGS]:
            log.warning(
                "%s, line %d: %s cannot match: %s",
                self._name, line.number, quoted(line.text), reason,
            )  # fmt: skip
        if len(found) > MAX_WARNINGS:
            log.warning("%s: %d more entries cannot match", self._name, len(found) - MAX_WARNINGS)

    def _unmatched(self, served: Collection[tuple[Alphabet, int]]) -> Iterable[tuple[Line, str]]:
        """Yield the entries that cannot match, each with the reason."""
        models = [(set(alphabet), longest) for alphabet, longest in served]
        every = set().union(*(alphabet for alphabet, _ in models))

        def matches(text: str) -> bool:
            return any(a.issuperset(text) and len(text) <= longest for a, longest in models)

        for line in self._lines:
            if matches(line.text):
                continue
            missing = [character for character in line.text if character not in every]
            if missing:
                reason = f"no served model has the character {describe(missing[0])}"
            elif not any(alphabet.issuperset(line.text) for alphabet, _ in models):
                reason = "no served model has all of its characters"
            else:
                reason = f"no served model makes strings of {len(line.text):,} characters"
            other = (line.text.lower(), line.text.upper())
            if case := next(filter(matches, other), ""):
                reason += f"; {quoted(case)} would match"
            yield line, reason
