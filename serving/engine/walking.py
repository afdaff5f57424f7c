"""Rows that draw on from what is known already, as far as that goes.

B is the number of rows, N that of places, V the vocabulary.
"""

import ctypes
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from serving.engine import compiled, kernels, sampling
from serving.engine import rows as table
from serving.engine.alone import Alone
from serving.engine.kernels import Kernels, Places
from serving.engine.rows import Records
from serving.engine.sampling import Bool, Float32, Float64, Int64
from serving.vocabulary import BOUNDARY

NO_CHILD = 0
ENOUGH = 8192
"""A walk ends after so many tokens that were seen without a step: half a millisecond, after which others may
want to have their turn."""


class Known(NamedTuple):
    """What rows draw from, by place."""

    logits: Float32  # [N, V]
    cumulative: Float64  # [N, V], see sampling.edges
    log_partition: Float64  # [N]

    def changed(self, change: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> Self:
        """The same with something done to every column."""
        cls = type(self)
        return cls(change(self.logits), change(self.cumulative), change(self.log_partition))

    def at(self, place: int) -> Self:
        """A copy of what is known at one place."""
        return self.changed(lambda column: column[place : place + 1].copy())

    def put(self, places: Int64 | slice, known: Self) -> None:
        """Set what is known at some places."""
        self.logits[places] = known.logits
        self.cumulative[places] = known.cumulative
        self.log_partition[places] = known.log_partition


def known_of(logits: Float32) -> Known:
    """What is known where these are the logits, [N, V]."""
    library = compiled.library()
    if library:
        return Known(logits, *kernels.edges(library, logits))
    return Known(logits, *sampling.edges(logits.astype(np.float64)))


class Ways(NamedTuple):
    """Where tokens lead from places, if that is known."""

    child: npt.NDArray[np.int32]  # [N, V], the place after a token, or NO_CHILD
    used: Int64  # [N], set to the clock wherever a row comes by


class Relief:
    """Simple rows of one job that take the places of others as these are done, from walk to walk.

    Args:
        records: in the order in which they are used, [N], complete but for their places.
        kept: the context that they go on from.
    """

    def __init__(self, records: Records, kept: Any) -> None:
        self.kept = kept
        self.records = records
        self._done = np.empty_like(records)
        self._told = 0
        where = records.ctypes.data, len(records), self._done.ctypes.data
        self.given = kernels.Relief(*where)

    @property
    def used(self) -> int:
        """How many have taken a place."""
        used: int = self.given.used
        return used

    @property
    def waiting(self) -> int:
        """How many rows are done that were not yet told."""
        return self.used - self._told

    @property
    def is_used_up(self) -> bool:
        """Whether all have."""
        return self.used == len(self.records)

    def done(self) -> Records:
        """The rows whose places were taken since this was last asked."""
        told, self._told = self._told, self.used
        return table.copied(self._done[told : self._told])


class Walked(NamedTuple):
    """What has come of a walk."""

    are_done: Bool  # [B], which rows have drawn their last token
    done: int  # how many
    unchosen: int  # how many have no token, not being simple
    hits: int  # tokens that were seen without a step
    relieved: int = 0  # how many rows have left their places to others
    are_new: Bool | None = None  # [B], which rows are others now; None if none is


class Walker:
    """Lets rows walk, by compiled loops if there are any.

    Args:
        longest: the longest text that the model can make.

    Attributes:
        is_compiled: whether there are compiled loops; no relief takes places and no row goes on without.
    """

    def __init__(self, longest: int) -> None:
        library = compiled.library()
        self._library = library
        self._kernels = Kernels(library, longest) if library else None
        self.is_compiled = self._kernels is not None
        self._known: Known | None = None
        self._places = Places()
        self._learnt: tuple[int, sampling.Edges, tuple[int, int]]  # what is learnt goes there
        self._kept: Known | None = None
        self._fresh = Places()
        self._flags = np.zeros((2, 0), np.bool_)
        self._are_done, self._are_new = self._flags
        self._new_at = 0
        if self._kernels:
            self._kernels.given.enough = ENOUGH

    def fill_uniforms(self, records: Records) -> None:
        """Make the numbers that records keep for their first steps."""
        if self._kernels:
            self._kernels.fill_uniforms(records)
        else:
            records["uniform"] = table.make_uniforms(records)

    def walk(
        self,
        live: Records,
        known: Known,
        ways: Ways | None = None,
        clock: int = 0,
        relief: Relief | None = None,
    ) -> Walked:
        """Let rows see their tokens where it is known to what these lead, and simple ones draw the next.

        Args:
            live: the rows, [B], changed in place.
            known: what they draw from.
            ways: where tokens lead; None if nowhere.
            clock: what is noted where rows come by.
            relief: takes the places of rows that are done, if there are compiled loops. Without ways its rows
                go on where these were, though what is known there still is of these.

        Returns:
            What has come of it; its arrays are good until the next walk.
        """
        if not self._kernels:
            return _walk_plainly(live, known, ways, clock)
        self._look_at(known, ways)
        if len(self._are_done) != len(live):
            self._show(len(live))
        given = self._given(relief, ways) if relief else None
        walked = self._kernels.walk(live, clock, given)
        relieved = walked.relieved
        are_new = self._are_new if relieved else None
        return Walked(self._are_done, walked.done, walked.unchosen, walked.hits, relieved, are_new)

    def _show(self, rows: int) -> None:
        """The flags of so many rows."""
        if self._flags.shape[1] < rows:
            assert self._kernels
            self._flags = np.zeros((2, rows), np.bool_)
            self._kernels.given.are_done, self._new_at = (row.ctypes.data for row in self._flags)
        self._are_done, self._are_new = self._flags[:, :rows]

    def _look_at(self, known: Known, ways: Ways | None) -> None:
        if known is not self._known:
            assert self._kernels
            self._known, self._places = known, _places(known, ways)
            at = self._places.cumulative, self._places.log_partition
            self._learnt = self._places.logits, sampling.Edges(*known[1:]), at
            self._kernels.given.places = ctypes.addressof(self._places)

    def learn(self, known: Known, logits: Float32) -> None:
        """Set what is known at all of the places that have no ways, by their logits: [N, V]."""
        if not self._library:
            known.put(slice(None), known_of(logits))
            return
        self._look_at(known, None)
        known.logits[:] = logits
        kernels.fill_edges(self._library, *self._learnt)

    def go_on(
        self,
        live: Records,
        known: Known,
        ways: Ways | None,
        alone: Alone,
        goes_on: Callable[[], bool],
    ) -> int:
        """Let a simple row that has a token step and draw until its last, where there are compiled loops.

        Args:
            live: the row, [1], changed in place.
            known: at its place, gets what the steps give.
            ways: see walk.
            alone: has its states.
            goes_on: whether it is to go on; asked after every step.

        Returns:
            How many steps it took. Without a token, it is to draw its last.
        """
        assert self._kernels
        self._look_at(known, ways)
        self._kernels.set_out(live, alone.token)
        alone.token[:] = live["token"]
        steps, has_drawn, may_go_on = 0, True, True
        while has_drawn and may_go_on:
            has_drawn = self._kernels.follow(alone.step())
            may_go_on = goes_on()
            steps += 1
        return steps

    def _given(self, relief: Relief, ways: Ways | None) -> kernels.Relief:
        """A relief for this walk."""
        given = relief.given
        given.are_new = self._new_at
        if ways is None and relief.kept.known is not self._kept:
            self._kept = relief.kept.known
            self._fresh = _places(self._kept, None)
        given.fresh = None if ways else ctypes.addressof(self._fresh)
        return given


def _places(known: Known, ways: Ways | None) -> Places:
    columns = known._asdict() | (ways._asdict() if ways else {})
    at = {name: column.ctypes.data for name, column in columns.items()}
    return Places(vocabulary=known.logits.shape[1], **at)


def _walk_plainly(live: Records, known: Known, ways: Ways | None, clock: int) -> Walked:
    are_done = np.zeros(len(live), np.bool_)
    hits = 0
    rows = np.arange(len(live))  # those that walk on
    while len(rows):
        fresh = rows[(live["token"][rows] < 0) & live["simple"][rows]]
        records = table.picked(live, fresh)
        are_done[fresh] = _draw(records, known)
        table.put(live, fresh, records)
        if ways is None or hits >= ENOUGH:
            break
        rows = rows[~are_done[rows] & (live["token"][rows] >= 0)]
        after = ways.child[live["place"][rows], live["token"][rows]]
        is_known = after != NO_CHILD
        rows, after = rows[is_known], after[is_known]
        live["place"][rows] = after
        live["at"][rows] += 1
        live["token"][rows] = -1
        ways.used[after] = clock
        hits += len(rows)
    unchosen = int(np.count_nonzero(live["token"] < 0))
    return Walked(are_done, int(np.count_nonzero(are_done)), unchosen, hits)


def _draw(records: Records, known: Known) -> Bool:
    """Draw a token for each row; which are at their end, [B]."""
    places = records["place"]
    ids = sampling.passed(known.cumulative[places], table.uniforms(records))
    log_prob = known.logits[places, ids].astype(np.float64) - known.log_partition[places]
    length = records["length"]
    ended = ids == BOUNDARY
    grows = ~ended & (length < records["max_length"])
    records["log_prob"] += np.where(grows | ended, log_prob, 0.0)
    # A row that does not grow writes where nothing is read.
    records["text"][np.arange(len(records)), length] = ids
    records["length"] = length + grows
    records["token"] = ids
    done: Bool = ~grows
    return done
