"""What a server keeps for the constraints of all its calls, and where it works them out."""

import sys
from collections.abc import Sequence
from dataclasses import asdict

from serving.api.caller import caller
from serving.api.compiling import Room
from serving.api.request import At
from serving.constraints.automaton import Automaton, Rules
from serving.constraints.masks import Bounds
from serving.errors import InvalidArgument
from serving.kept import Kept

KEPT = 32 * 2**20
"""Bytes of what was compiled."""
OVERHEAD = 1024
"""Bytes that anything kept takes beside its tables and its texts."""

Alphabet = tuple[str, ...]


class Bounding:
    """Rules and lengths as the engine takes them; what takes long is done once, beside the event loop.

    Args:
        forbidden: substrings that no string may have, whoever asks.
        room: where it is done; belongs to one event loop.
        kept: what was done before.
    """

    def __init__(
        self, forbidden: Sequence[str] = (), room: Room | None = None, kept: Kept | None = None
    ) -> None:
        self.forbidden = forbidden
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
        """Rules and lengths together, after a prefix.

        Args:
            alphabet: of the model.
            rules: about characters.
            lengths: the least and the most of a string, prefix included.
            prefix: token ids.
            deadline: the instant of time.monotonic() at which the caller leaves; None for never.

        Raises:
            InvalidArgument: a rule is malformed or too complex, or no string keeps to all of them.
            Exhausted: too much waits to be compiled.
            DeadlineExceeded: the deadline passed before it was.
        """
        automaton = self.kept.get((alphabet, rules))
        whole = self.kept.get((automaton, lengths))
        if whole is None and rules == Rules():
            whole = self._compiled(alphabet, rules, lengths)
        elif whole is None:
            whole = await self.room.run(
                caller(),
                (alphabet, rules, lengths),
                lambda: self._compiled(alphabet, rules, lengths),
                deadline,
            )
        return self._begun(whole, rules, prefix)

    def _compiled(self, alphabet: Alphabet, rules: Rules, lengths: tuple[int, int]) -> Bounds:
        """For every prefix; in any thread."""
        key = alphabet, rules
        with At("constraints.{}"):
            automaton: Automaton | None = self.kept.get(key)
            if automaton is None:
                automaton = rules.compile(alphabet)
                automaton = self.kept.keep(key, automaton, weight_of(rules, automaton))
            whole = Bounds(automaton, *lengths)
            weight = OVERHEAD + whole.can_end.nbytes
        return self.kept.keep((automaton, lengths), whole, weight, key)

    def _begun(self, whole: Bounds, rules: Rules, prefix: tuple[int, ...]) -> Bounds:
        """After a prefix: the same object for all calls, since the engine looks at those together."""
        key, source = (whole, prefix), (whole.automaton, (whole.shortest, whole.longest))
        bounds: Bounds | None = self.kept.get(key)
        if bounds is None:
            bounds = whole.begun_with(prefix)
            if not bounds.is_satisfiable:
                given = [name for name, value in asdict(rules).items() if value]
                raise InvalidArgument(
                    f"constraints.{given[0] if given else 'min_length'}",
                    "no string that begins with the prefix and has the right length keeps to all of "
                    "the constraints",
                )
            bounds = self.kept.keep(key, bounds, OVERHEAD + sys.getsizeof(prefix), source)
        return bounds


def weight_of(rules: Rules, automaton: Automaton) -> int:
    """Bytes that an automaton takes with the rules that it is found by."""
    texts = (*rules.forbidden_substrings, rules.pattern, rules.suffix, rules.contains)
    texts = (*texts, rules.allowed_characters)
    tables = automaton.next.nbytes + automaton.accepting.nbytes
    listed = sys.getsizeof(rules.forbidden_substrings)
    return OVERHEAD + tables + listed + sum(map(sys.getsizeof, texts))
