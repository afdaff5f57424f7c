"""What a model knows after a text, and where rows keep it: the tree, or each row for itself.

B is the number of rows, V the vocabulary.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from serving.engine.alone import Alone
from serving.engine.rows import Records
from serving.engine.sampling import Bool, Float32, Int64
from serving.engine.stepping import FEWEST, States, StepSession, initial_states
from serving.engine.walking import Known, Relief, Walked, Walker, known_of
from serving.errors import ServingError
from serving.vocabulary import BOUNDARY

NOWHERE = -1
"""No place, where one is meant."""


class Context(NamedTuple):
    """What a model says after a text, and a slice of every state."""

    known: Known  # of one place
    states: States

    @property
    def logits(self) -> Float32:
        """Of the next character, [V]."""
        logits: Float32 = self.known.logits[0]
        return logits


class Contexts(Protocol):
    """Where rows are: a place is a number, and stands for a text that the model has seen.

    `keep` gives what outlives the rows at a place, and `fork` lets rows go on from it.
    """

    root: Any  # kept: after the boundary that starts every string
    walker: Walker
    off: int = NOWHERE  # the place of a row that is alone and has left what is kept; see `step`

    def fork(self, kept: Any, count: int) -> Int64:
        """Places for so many rows, all of them after the same text: [B]."""

    def keep(self, place: int) -> Any:
        """What `fork` goes on from, long after the row has left."""

    def known(self) -> Known:
        """What rows draw from, by place."""

    def logits(self, places: Int64) -> Float32:
        """Logits of the next character: [B, V]."""
        found: Float32 = self.known().logits[places]
        return found

    def walk(self, live: Records, relief: Relief | None = None) -> Walked:
        """Let simple rows draw on by what is known, [B] of them; see Walker.walk."""
        walked = self.walker.walk(live, self.known(), relief=relief)
        if relief and walked.are_new is not None:
            self.renew(live["place"][walked.are_new], relief.kept)
        return walked

    def relief(self, records: Records, kept: Any) -> Relief:
        """Rows that take the places of others as they walk, and go on from `kept`."""
        return Relief(records, kept)

    def renew(self, places: Int64, kept: Any) -> None:
        """Rows at these places have left, and others that go on from `kept` have come in their stead."""

    def advance(self, places: Int64, tokens: Int64) -> tuple[Int64, Bool]:
        """Let rows see one more token each.

        Returns:
            Where they are then, [B], and which of them got there, [B]; the others are to ask again.
        """

    def release(self, places: Int64) -> None:
        """Rows have left."""

    def step(self, place: int, token: int, *, may_leave: bool = False) -> int:
        """As `advance` for one row; NOWHERE if it did not get there.

        Args:
            place: where it is; `off` only if that is where the last step has led.
            token: what it sees.
            may_leave: it may come to `off`, from where it goes on alone: there is no other row.
        """
        after, moved = self.advance(np.array([place]), np.array([token]))
        return int(after[0]) if moved[0] else NOWHERE

    def go_on(self, live: Records, goes_on: Callable[[], bool]) -> int:
        """Let a row that is alone take steps, if it needs nothing but them; see Walker.go_on."""
        return 0


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
    return Context(known_of(logits[:1].copy()), tuple(state[0].copy() for state in states))


class Shared(Contexts):
    """A place stands for a text, whoever has come to it: nothing is copied as rows come and go."""

    def fork(self, kept: int, count: int) -> Int64:
        """See Contexts."""
        return np.full(count, kept, np.int64)

    def keep(self, place: int) -> int:
        """See Contexts."""
        return place

    def release(self, places: Int64) -> None:
        """See Contexts."""

    def relief(self, records: Records, kept: int) -> Relief:
        """See Contexts."""
        records["place"] = kept
        return super().relief(records, kept)

    def renew(self, places: Int64, kept: int) -> None:
        """See Contexts."""


class Private(Contexts):
    """Every row has its states for itself; nothing is computed once for two rows.

    A place is a slot in the arrays that the session gave last, so that a step copies nothing as long as
    all rows take it.
    """

    def __init__(self, session: StepSession, root: Context) -> None:
        self._session = session
        self.root = root
        self.walker = Walker(session.manifest.max_length)
        vocabulary = len(session.manifest.vocabulary)
        self._known = known_of(np.zeros((0, vocabulary), np.float32))
        self._states: States = initial_states(session.manifest.states, 0)
        self._free: list[int] = []
        self._left: set[int] = set()  # where states may still be those of a row that has left
        self._idle_steps = 0
        self._all = np.ones(0, np.bool_)
        self._alone = Alone(session)
        self._seat = initial_states(session.manifest.states, 1)

    def fork(self, kept: Context, count: int) -> Int64:
        """See Contexts."""
        high = len(self._known.logits)
        lacking = max(count - len(self._free), FEWEST - high)
        if lacking > 0:
            self._known = self._known.changed(lambda column: _longer(column, lacking))
            self._states = tuple(_longer(state, lacking) for state in self._states)
            self._free.extend(range(high, high + lacking))
        places = np.array(self._free[-count:], np.int64)
        del self._free[-count:]
        self._known.put(places, kept.known)
        self.renew(places, kept)
        return places

    def _own(self) -> None:
        """Make the states writeable; those that a session gives need not be."""
        if not all(state.flags.writeable for state in self._states):
            self._states = tuple(state.copy() for state in self._states)

    def keep(self, place: int) -> Context:
        """See Contexts."""
        states = tuple(state[place].copy() for state in self._states)
        return Context(self._known.at(place), states)

    def known(self) -> Known:
        """See Contexts."""
        return self._known

    def advance(self, places: Int64, tokens: Int64) -> tuple[Int64, Bool]:
        """See Contexts."""
        live = len(self._known.logits) - len(self._free)
        if len(places) < live:
            self._advance_some(places, tokens)
        else:
            places = self._closed_up(places)
            self._rest_idle()
            every = np.zeros(len(self._known.logits), np.int64)
            every[places] = tokens
            logits, self._states = self._session.advance(every, self._states)
            self.walker.learn(self._known, logits)
        if len(self._all) < len(places):
            self._all = np.ones(len(places), np.bool_)
        return places, self._all[: len(places)]

    def go_on(self, live: Records, goes_on: Callable[[], bool]) -> int:
        """See Contexts."""
        place, alone = live["place"][0], self._alone
        for here, state in zip(self._seat, self._states, strict=True):
            here[0] = state[place]
        alone.states = self._seat
        steps = self.walker.go_on(live, self._known, None, alone, goes_on)
        if steps and live["token"][0] >= 0:  # otherwise it needs no states any more
            self._own()
            for here, state in zip(alone.states, self._states, strict=True):
                state[place] = here[0]
        return steps

    def _advance_some(self, places: Int64, tokens: Int64) -> None:
        states = tuple(state[places] for state in self._states)
        logits, after = self._session.step(tokens, states)  # nothing is kept ready for new arrays
        self._own()
        self._known.put(places, known_of(logits))
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
        """Without the slots that nobody has, where they are many; one that is alone keeps one of them."""
        if len(self._free) * 4 <= len(self._known.logits) or len(self._known.logits) <= FEWEST:
            return places
        idle = np.array(self._free[: max(FEWEST - len(places), 0)], np.int64)
        stay = np.concatenate([places, idle])
        self._known = self._known.changed(lambda column: column[stay])
        self._states = tuple(state[stay] for state in self._states)
        self._free[:] = range(len(places), len(stay))
        self._left = set(self._free)
        return np.arange(len(places))

    def renew(self, places: Int64, kept: Context) -> None:
        """See Contexts."""
        self._own()
        for state, value in zip(self._states, kept.states, strict=True):
            state[places] = value

    def release(self, places: Int64) -> None:
        """See Contexts."""
        self._free.extend(places.tolist())
        self._left.update(places.tolist())


def _longer(array: npt.NDArray[Any], by: int) -> npt.NDArray[Any]:
    return np.concatenate([array, np.zeros((by, *array.shape[1:]), array.dtype)])
