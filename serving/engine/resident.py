"""Contexts whose states stay on a device: a row is where its slab and its place in it say.

A turn steps one slab for all rows of a lane. Before it, if rows have come or gone, those that are left are
picked together into another slab, on the device. Only logits come to the host, and the state of a prefix
that is to be gone on from.

There is no prefix tree here. A GPU takes about as long for a step of one row as for one of R, so that a row
which need not be computed saves it nothing, while looking rows up takes the host's time.
"""

from collections import Counter
from itertools import count
from time import perf_counter

import numpy as np

from serving.engine.contexts import Context, Contexts
from serving.engine.device_session import DeviceSession, Slab, padded
from serving.engine.moves import Block
from serving.engine.sampling import Bool, Int64
from serving.engine.timed import StepClock
from serving.engine.walking import Known, Walker, known_of

ARRIVING = -1
"""The slab of a row whose state is on the host yet."""
NOWHERE = -2
"""That of a place that nobody has."""
ROOT = 0
"""The number of the root, among what rows go on from."""


class Resident(Contexts):
    """Contexts on a device; see Contexts. B is the number of rows, R that of a slab.

    Args:
        session: the model.
        root: after the boundary that starts every string.
        clock: told of every step.
    """

    def __init__(
        self, session: DeviceSession, root: Context, clock: StepClock | None = None
    ) -> None:
        self.root = root
        self.walker = Walker(session.manifest.max_length)
        self._clock = clock or StepClock()
        self._session = session
        self._mover = session.mover
        self._origins = {ROOT: root}  # what arriving rows go on from, by its number
        self._awaited: Counter[int] = Counter()  # arriving rows, by what they go on from
        self._numbers = count(ROOT + 1)
        self._known = root.known.changed(lambda column: column[:0])
        self._slab: Int64 = np.zeros(0, np.int64)  # by place
        self._row: Int64 = np.zeros(0, np.int64)  # by place: which row of the slab
        self._origin: Int64 = np.zeros(0, np.int64)  # by place, of those that are arriving
        self._slabs: list[Slab] = []
        self._is_whole = np.zeros(0, np.bool_)  # by slab: no row has left that was picked into it
        self._arrivals: dict[int, Block] = {}  # by their number of rows
        self._single = self._mover.block(1)
        self._root = self._mover.block(1)
        self._mover.fill(self._root, [state[None] for state in root.states])

    def fork(self, kept: Context, count: int) -> Int64:
        """See Contexts."""
        free = np.flatnonzero(self._slab == NOWHERE)
        if len(free) < count:
            self._grow(max(count, len(self._slab)))
            free = np.flatnonzero(self._slab == NOWHERE)
        places = free[:count]
        self._arrive(places, kept)
        self._known.put(places, kept.known)
        return places

    def _arrive(self, places: Int64, kept: Context) -> None:
        self._slab[places] = ARRIVING
        self._origin[places] = ROOT if kept is self.root else self._await(kept, len(places))

    def renew(self, places: Int64, kept: Context) -> None:
        """See Contexts."""
        self.release(places)
        self._arrive(places, kept)

    def _await(self, kept: Context, count: int) -> int:
        """The number of what so many rows go on from."""
        number = next(self._numbers)
        self._origins[number], self._awaited[number] = kept, count
        return number

    def _forget(self, places: Int64) -> None:
        """Rows that were arriving have arrived or left."""
        if len(self._origins) == 1:
            return
        origins = self._origin[places[self._slab[places] == ARRIVING]]
        self._awaited.subtract(origins[origins != ROOT].tolist())
        for number in [number for number, rows in self._awaited.items() if not rows]:
            del self._awaited[number], self._origins[number]

    def _grow(self, by: int) -> None:
        rows = len(self._slab) + by
        self._known = self._known.changed(lambda column: padded(column, rows))
        self._row, self._origin = padded(self._row, rows), padded(self._origin, rows)
        self._slab = np.concatenate([self._slab, np.full(by, NOWHERE)])

    def keep(self, place: int) -> Context:
        """See Contexts."""
        if self._slab[place] == ARRIVING:
            return self._origins[int(self._origin[place])]
        front = self._slabs[self._slab[place]].front
        self._mover.pick(front, self._root, self._row[place : place + 1], self._single)
        states = tuple(state[0] for state in self._mover.read(self._single))
        return Context(self._known.at(place), states)

    def known(self) -> Known:
        """See Contexts."""
        return self._known

    def advance(self, places: Int64, tokens: Int64) -> tuple[Int64, Bool]:
        """See Contexts."""
        for begin in range(0, len(places), self._session.rows):
            part = slice(begin, begin + self._session.rows)
            self._step(places[part], tokens[part])
        return places, np.ones(len(places), np.bool_)

    def _step(self, places: Int64, tokens: Int64) -> None:
        slab = self._slab[places[0]]
        if not self._is_ready(slab, places):
            slab = self._gather(places)
        every = np.zeros(self._session.rows, np.int64)
        every[self._row[places]] = tokens
        begun = perf_counter()
        logits = self._session.take(self._slabs[slab], every)
        self._clock.note(len(places), perf_counter() - begun)
        self._known.put(places, known_of(logits[self._row[places]]))

    def _is_ready(self, slab: int, places: Int64) -> bool:
        """Whether a slab can be stepped as it is: it has these rows and no others.

        Rows that nobody has take part in its steps, and must not run past the longest string. Those that
        begin anew when rows are picked together never do before a row that somebody has; one that was left
        behind might.
        """
        if slab == ARRIVING or not self._is_whole[slab]:
            return False
        here = np.count_nonzero(self._slab == slab)
        return here == len(places) and bool((self._slab[places] == slab).all())

    def release(self, places: Int64) -> None:
        """See Contexts."""
        self._forget(places)
        slabs = self._slab[places]
        self._is_whole[slabs[slabs >= 0]] = False
        self._slab[places] = NOWHERE

    # --- picking rows together

    def _gather(self, places: Int64) -> int:
        """Bring rows into a slab of their own, in this order; all others of its rows begin anew."""
        sources, rows = self._slab[places], self._row[places]  # [B]
        before, picked = self._arrived(places)  # [R] are rows of it
        slab = ARRIVING
        for source in np.unique(sources[sources >= 0]).tolist():
            front = self._slabs[source].front
            self._is_whole[source] = False
            mine = np.flatnonzero(sources == source)
            picked = picked + front.rows
            picked[mine] = rows[mine]
            slab = self._vacant(source, slab)
            self._mover.pick(front, before, picked, self._slabs[slab].front)
            before, picked = self._slabs[slab].front, np.arange(self._session.rows)
        if slab == ARRIVING:
            slab = self._vacant()
            self._mover.pick(before, self._root, picked, self._slabs[slab].front)
        self._slab[places], self._row[places] = slab, np.arange(len(places))
        self._is_whole[slab] = True
        return slab

    def _arrived(self, places: Int64) -> tuple[Block, Int64]:
        """A block of the root and of what arriving rows go on from, and which of it each of R rows takes."""
        rows = self._session.rows
        if len(self._origins) == 1:
            return self._root, np.zeros(rows, np.int64)
        origins = np.where(self._slab[places] == ARRIVING, self._origin[places], ROOT)
        numbers, picked = np.unique(np.append(ROOT, origins), return_inverse=True)
        if len(numbers) == 1:
            return self._root, np.zeros(rows, np.int64)
        block = self._arrival(1 << (len(numbers) - 1).bit_length())  # few sizes, which stay
        states = zip(*(self._origins[number].states for number in numbers.tolist()), strict=True)
        self._mover.fill(block, [padded(np.stack(state), block.rows) for state in states])
        self._forget(places)
        return block, padded(picked[1:], rows)

    def _arrival(self, rows: int) -> Block:
        """A block of so many rows."""
        if rows not in self._arrivals:
            self._arrivals[rows] = self._mover.block(rows)
        return self._arrivals[rows]

    def _vacant(self, *used: int) -> int:
        """A slab without rows that is none of those in use."""
        for slab in range(len(self._slabs)):
            if slab not in used and not (self._slab == slab).any():
                return slab
        self._slabs.append(self._session.slab())
        self._is_whole = np.append(self._is_whole, False)
        return len(self._slabs) - 1
