"""What a model knows after a text, and where rows keep it: the tree, or each row for itself.

B is the number of rows, V the vocabulary.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from serving.engine.sampling import Bool, Int64, Table
from serving.engine.stepping import States, StepSession, initial_states
from serving.errors import ServingError
from serving.vocabulary import BOUNDARY

Float32 = npt.NDArray[np.float32]

NOWHERE = -1
"""No place, where one is meant."""


class Context(NamedTuple):
    """Logits [V] after a text, and a slice of every state."""

    logits: Float32
    states: States


class Contexts(Protocol):
    """Where rows are: a place is a number, and stands for a text that the model has seen.

    `keep` gives what outlives the rows at a place, and `fork` lets rows go on from it.
    """

    root: Any  # kept: after the boundary that starts every string
    shared: bool = False  # whether what was computed for one row is there for others

    def fork(self, kept: Any, count: int) -> Int64:
        """Places for so many rows, all of them after the same text: [B]."""

    def keep(self, place: int) -> Any:
        """What `fork` goes on from, long after the row has left."""

    def logits_of(self, kept: Any) -> Float32:
        """Logits of the next character after what is kept: [V]."""

    def logits(self, places: Int64) -> Float32:
        """Logits of the next character: [B, V]."""

    def follow(self, places: Int64, tokens: Int64) -> tuple[Int64, Bool]:
        """As `advance`, without a step: those get there for whom nothing is to be computed.

        None does where those would be few, or nothing is `shared`.
        """
        return places, np.zeros(len(places), np.bool_)

    def advance(self, places: Int64, tokens: Int64) -> tuple[Int64, Bool]:
        """Let rows see one more token each.

        Returns:
            Where they are then, [B], and which of them got there, [B]; the others are to ask again.
        """

    def release(self, places: Int64) -> None:
        """Rows have left."""

    # A row that is alone:

    def draw(self, place: int, uniform: float) -> tuple[int, float]:
        """A plain draw of the next token, and its log-probability; `uniform` is in [0, 1)."""
        return Table.of(self.logits(np.array([place]))[0]).draw(uniform)

    def step(self, place: int, token: int) -> int:
        """Where the row is after one more token; NOWHERE if it did not get there and is to ask again."""
        after, moved = self.advance(np.array([place]), np.array([token]))
        return int(after[0]) if moved[0] else NOWHERE


def after_boundary(session: StepSession) -> Context:
    """Feed the boundary that starts every string.

    Raises:
        ServingError: the logits are not as many as tokens, or not finite.
    """
    manifest = session.manifest
    token = np.full(2, BOUNDARY, np.int64)
    logits, states = session.step(token, initial_states(manifest.states, 2))
    if logits.shape != (2, len(manifest.vocabulary)) or not np.isfinite(logits).all():
        raise ServingError(f"{manifest.name}: the first step gives no usable logits")
    return Context(logits[0].copy(), tuple(state[0].copy() for state in states))


class Private(Contexts):
    """Every row has its states for itself; nothing is computed once for two rows.

    A place is a slot in the arrays that the session gave last, so that a step copies nothing as long as
    all rows take it.
    """

    def __init__(self, session: StepSession, root: Context) -> None:
        self._session = session
        self.root = root
        vocabulary = len(session.manifest.vocabulary)
        self._logits: Float32 = np.zeros((0, vocabulary), np.float32)
        self._states: States = initial_states(session.manifest.states, 0)
        self._free: list[int] = []
        self._left: set[int] = set()  # where states may still be those of a row that has left
        self._idle_steps = 0

    def fork(self, kept: Context, count: int) -> Int64:
        """See Contexts."""
        lacking = count - len(self._free)
        if lacking > 0:
            high = len(self._logits)
            self._logits = _longer(self._logits, lacking)
            self._states = tuple(_longer(state, lacking) for state in self._states)
            self._free.extend(range(high, high + lacking))
        places = np.array(self._free[-count:], np.int64)
        del self._free[-count:]
        self._own()
        self._logits[places] = kept.logits
        for state, value in zip(self._states, kept.states, strict=True):
            state[places] = value
        return places

    def _own(self) -> None:
        """Make the arrays writeable; those that a session gives need not be."""
        if not all(array.flags.writeable for array in (self._logits, *self._states)):
            self._logits = self._logits.copy()
            self._states = tuple(state.copy() for state in self._states)

    def keep(self, place: int) -> Context:
        """See Contexts."""
        return Context(self._logits[place].copy(), tuple(s[place].copy() for s in self._states))

    def logits_of(self, kept: Context) -> Float32:
        """See Contexts."""
        return kept.logits

    def logits(self, places: Int64) -> Float32:
        """See Contexts."""
        return self._logits[places]

    def advance(self, places: Int64, tokens: Int64) -> tuple[Int64, Bool]:
        """See Contexts."""
        live = len(self._logits) - len(self._free)
        if len(places) < live:
            self._advance_some(places, tokens)
        else:
            places = self._closed_up(places)
            self._rest_idle()
            every = np.zeros(len(self._logits), np.int64)
            every[places] = tokens
            self._logits, self._states = self._session.advance(every, self._states)
        return places, np.ones(len(places), np.bool_)

    def _advance_some(self, places: Int64, tokens: Int64) -> None:
        states = tuple(state[places] for state in self._states)
        logits, after = self._session.advance(tokens, states)
        self._own()
        self._logits[places] = logits
        for state, value in zip(self._states, after, strict=True):
            state[places] = value

    def _rest_idle(self) -> None:
        """Put the slots that nobody has back to the start, before they get past the longest string."""
        if self._left:
            self._restart(list(self._left.intersection(self._free)))
            self._left.clear()
        self._idle_steps += 1
        if self._free and self._idle_steps >= self._session.manifest.max_length:
            self._restart(self._free)
            self._idle_steps = 0

    def _restart(self, slots: Sequence[int]) -> None:
        if not slots:
            return
        self._own()
        for state, value in zip(self._states, self.root.states, strict=True):
            state[slots] = value

    def _closed_up(self, places: Int64) -> Int64:
        """Without the slots that nobody has, where they are many."""
        if len(self._free) * 4 <= len(self._logits):
            return places
        self._logits = self._logits[places]
        self._states = tuple(state[places] for state in self._states)
        self._free.clear()
        self._left.clear()
        return np.arange(len(places))

    def release(self, places: Int64) -> None:
        """See Contexts."""
        self._free.extend(places.tolist())
        self._left.update(places.tolist())


def _longer(array: npt.NDArray[Any], by: int) -> npt.NDArray[Any]:
    return np.concatenate([array, np.zeros((by, *array.shape[1:]), array.dtype)])
