"""What a server keeps for the constraints of all its calls, and where it works them out."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields

from serving.api.caller import caller
from serving.api.compiling import Room
from serving.api.request import At
from serving.constraints.automaton import Automaton, Rules, intersection
from serving.constraints.masks import Bounds
from serving.constraints.pattern import TooComplex
from serving.errors import InvalidArgument
from serving.forbidden import Alphabet, ForbiddenList
from serving.kept import Kept

KEPT = 32 * 2**20
"""Bytes of what was compiled."""
OVERHEAD = 1024
"""Bytes that anything kept takes beside its tables and its texts."""


class Bounding:
    """Rules and lengths as the engine takes them; what takes long is done once, beside the event loop.

    Args:
        forbidden: the operator's list, which holds for every call.
        room: where it is done; belongs to one event loop.
        kept: what was done before.
    """

    def __init__(
        self,
        forbidden: ForbiddenList | None = None,
        room: Room | None = None,
        kept: Kept | None = None,
    ) -> None:
        self.forbidden = forbidden or ForbiddenList()
        self.room = room or Room()
        self.kept = Kept(KEPT) if kept is None else kept

    async def bounds(
        self,
        alphabet: Alphabet,
        rules: Rules,
        lengths: tuple[int, int],
        prefix: tuple[int, ...],
        deadline: float | None = None,
    ) -> Bounds:
        """Rules, lengths and the operator's list together, after a prefix.

        Args:
            alphabet: of the model.
            rules: the caller's, about characters.
            lengths: the least and the most of a string, prefix included.
            prefix: token ids.
            deadline: the instant of time.monotonic() at which the caller leaves; None for never.

        Raises:
            InvalidArgument: a rule is malformed or too complex, no string keeps to all of them, or the
                prefix has a forbidden substring.
            Exhausted: too much waits to be compiled.
            DeadlineExceeded: the deadline passed before it was.
        """
        forbidden = self.forbidden.automaton(alphabet)
        if forbidden is not None and forbidden.run(prefix) == len(forbidden.next):
            raise InvalidArgument("prefix", "contains a substring that this server forbids")
        automaton = self.kept.get((alphabet, rules))
        whole = self.kept.get((automaton, lengths))
        if whole is None and rules == Rules() and (forbidden is None or lengths[0] == 0):
            whole = self._compiled(alphabet, rules, lengths)
        elif whole is None:
            whole = await self.room.run(
                caller(),
                (alphabet, rules, lengths),
                lambda: self._compiled(alphabet, rules, lengths),
                deadline,
            )
        return self._begun(whole, alphabet, rules, prefix)

    def _compiled(self, alphabet: Alphabet, rules: Rules, lengths: tuple[int, int]) -> Bounds:
        """For every prefix; in any thread."""
        key = alphabet, rules
        automaton: Automaton | None = self.kept.get(key)
        with At("constraints.{}"):
            if automaton is None:
                automaton, weight = self._automaton(alphabet, rules)
                automaton = self.kept.keep(key, automaton, weight)
            with blaming(rules, self._also(alphabet)):
                whole = Bounds(automaton, *lengths)
                weight = OVERHEAD + sum(array.nbytes for array in whole.ends)
        return self.kept.keep((automaton, lengths), whole, weight, key)

    def _automaton(self, alphabet: Alphabet, rules: Rules) -> tuple[Automaton, int]:
        """The automaton of the rules and the operator's list, and the bytes that it adds."""
        forbidden = self.forbidden.automaton(alphabet)
        if forbidden is not None and rules == Rules():
            return forbidden, OVERHEAD
        with blaming(rules):
            automaton = rules.compile(alphabet)
        if forbidden is not None:
            with blaming(rules, self._also(alphabet)):
                automaton = intersection(automaton, forbidden)
        return automaton, weight_of(rules, automaton)

    def _also(self, alphabet: Alphabet) -> str:
        """The part of an error's description about the operator's list, if it has entries for a model."""
        if self.forbidden.automaton(alphabet) is None:
            return ""
        return " together with this server's own list of forbidden substrings"

    def _begun(
        self, whole: Bounds, alphabet: Alphabet, rules: Rules, prefix: tuple[int, ...]
    ) -> Bounds:
        """After a prefix: the same object for all calls, since the engine looks at those together."""
        key, source = (whole, prefix), (whole.automaton, (whole.shortest, whole.longest))
        bounds: Bounds | None = self.kept.get(key)
        if bounds is None:
            bounds = whole.begun_with(prefix)
            if not bounds.is_satisfiable:
                raise InvalidArgument(
                    f"constraints.{blamed(rules)}",
                    "no string that begins with the prefix and has the right length keeps to all of "
                    f"the constraints{self._also(alphabet)}",
                )
            bounds = self.kept.keep(key, bounds, OVERHEAD + sys.getsizeof(prefix), source)
        return bounds


def blamed(rules: Rules) -> str:
    """The field to name where rules and lengths cannot be kept: the first that the caller set."""
    return next((f.name for f in fields(rules) if getattr(rules, f.name)), "min_length")


@contextmanager
def blaming(rules: Rules, also: str = "") -> Iterator[None]:
    """Name a field that the caller set in place of TooComplex's own, and what it is too complex with."""
    try:
        yield
    except TooComplex as error:
        raise TooComplex(blamed(rules), f"{error.description}{also}") from None


def weight_of(rules: Rules, automaton: Automaton) -> int:
    """Bytes that an automaton takes with the rules that it is found by."""
    texts = (*rules.forbidden_substrings, rules.pattern, rules.suffix, rules.contains)
    texts = (*texts, rules.allowed_characters)
    tables = automaton.next.nbytes + automaton.accepting.nbytes
    listed = sys.getsizeof(rules.forbidden_substrings)
    return OVERHEAD + tables + listed + sum(map(sys.getsizeof, texts))
