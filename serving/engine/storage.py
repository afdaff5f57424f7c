"""How the prefix tree keeps states: whole, or of each only what the last step has added.

A Transformer's cache gets one entry a step, and what it has does not change. So a node need keep its own
entry alone: the states after a text are the entries of its prefixes. A node takes a sixteenth of the memory
then, and nothing is copied that was not written.
"""

import ctypes
import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from serving.engine import compiled
from serving.engine.compiled import address
from serving.engine.kernels import Piece
from serving.engine.pool import Column, Pool
from serving.engine.sampling import Int64
from serving.engine.stepping import FEWEST, Array, States
from serving.errors import ServingError
from serving.manifest import Manifest, StateSpec


class Storage(Protocol):
    """States in slots of a pool.

    Attributes:
        columns: of the pool.
        slot_bytes: what a slot takes.
        is_chained: whether a node's states can be had only as long as all of its prefixes have theirs.
    """

    columns: dict[str, Column]
    slot_bytes: int
    is_chained: bool

    def gathered(self, nodes: Pool, slots: Pool, places: Int64) -> States:
        """The states of some nodes, [B, ...] each, always in the same memory."""

    def put(self, nodes: Pool, slots: Pool, places: Int64, states: States) -> None:
        """Keep the states of some nodes, [B, ...] each, in the slots that they have."""


class Scratch:
    """Memory for so many rows of each state as there were ever need for.

    Attributes:
        at: the addresses of the states.
    """

    def __init__(self, specs: Sequence[StateSpec]) -> None:
        self._arrays = [np.zeros((0, *spec.shape), spec.dtype) for spec in specs]
        self._rows: dict[int, States] = {}
        self.at = addresses(self._arrays)

    def rows(self, count: int) -> States:
        """The first rows of every state; the same tuple every time."""
        found = self._rows.get(count)
        if found is None:
            if self._arrays and len(self._arrays[0]) < count:
                # Zeros, since entries that do not matter yet are multiplied by 0, and must be finite.
                self._arrays = [np.zeros((2 * count, *a.shape[1:]), a.dtype) for a in self._arrays]
                self.at = addresses(self._arrays)
                self._rows.clear()
            found = self._rows[count] = tuple(array[:count] for array in self._arrays)
        return found


def addresses(arrays: Sequence[Array]) -> Any:
    """Where arrays are, for C."""
    return (ctypes.c_void_p * len(arrays))(*map(address, arrays))


class Whole:
    """Storage of whole states; see Storage."""

    is_chained = False

    def __init__(self, specs: Sequence[StateSpec]) -> None:
        self.columns: dict[str, Column] = {
            str(i): (spec.dtype, spec.shape) for i, spec in enumerate(specs)
        }
        self.slot_bytes = sum(spec.bytes_per_row for spec in specs)
        self._scratch = Scratch(specs)

    def gathered(self, nodes: Pool, slots: Pool, places: Int64) -> States:
        """See Storage."""
        which, rows = nodes["slot"][places], self._scratch.rows(len(places))
        for name, row in zip(self.columns, rows, strict=True):
            np.take(slots[name], which, axis=0, out=row, mode="clip")
        return rows

    def put(self, nodes: Pool, slots: Pool, places: Int64, states: States) -> None:
        """See Storage."""
        which = nodes["slot"][places]
        for name, state in zip(self.columns, states, strict=True):
            slots[name][which] = state


class Packed:
    """Storage in C: of states that grow only what each step has added; see Storage.

    Args:
        specs: of the states.
        library: see compiled.library.
        is_chained: whether there are such states, of which every step adds to an entry of its own.
    """

    def __init__(self, specs: Sequence[StateSpec], library: Any, *, is_chained: bool) -> None:
        self.is_chained = is_chained
        self._gather, self._put = library.gather, library.put
        pieces, self.slot_bytes = _pieces(specs, is_chained=is_chained)
        self._pieces = (Piece * len(pieces))(*pieces)
        self._about = ctypes.addressof(self._pieces), len(pieces), self.slot_bytes
        self.columns: dict[str, Column] = {"added": (np.uint8, (self.slot_bytes,))}
        self._row_bytes = [spec.bytes_per_row for spec in specs]
        self._scratch = Scratch(specs)
        self._checked_last: tuple[States | None, Any] = (None, None)

    def gathered(self, nodes: Pool, slots: Pool, places: Int64) -> States:
        """See Storage."""
        rows = self._scratch.rows(len(places))
        self._call(self._gather, nodes, slots, places, self._scratch.at)
        return rows

    def put(self, nodes: Pool, slots: Pool, places: Int64, states: States) -> None:
        """See Storage; raises ServingError where a model's states are not what it says they are."""
        known, at = self._checked_last
        if known is not states:
            at = self._checked(states, len(places))
            if len(places) <= FEWEST:  # lest what a large step gave be kept until the next
                self._checked_last = states, at
        self._call(self._put, nodes, slots, places, at)

    def _checked(self, states: States, rows: int) -> Any:
        """Where states are, which are as the manifest says."""
        for state, size in zip(states, self._row_bytes, strict=True):
            if state.nbytes != size * rows or not state.flags.c_contiguous:
                raise ServingError("the model gives states of another shape than its manifest says")
        return addresses(states)

    def _call(self, what: Any, nodes: Pool, slots: Pool, places: Int64, states: Any) -> None:
        columns = slots.at("added"), nodes.at("parent"), nodes.at("slot")
        what(*self._about, *columns, address(places), len(places), states)


def _pieces(specs: Sequence[StateSpec], *, is_chained: bool) -> tuple[list[Piece], int]:
    """Where a slot has what of each state, and how long it is."""
    pieces, end = [], 0
    for spec in specs:
        inner = spec.bytes_per_row
        outer, entries = 1, 0
        if is_chained and spec.grows is not None:
            outer, entries = math.prod(spec.shape[: spec.grows]), spec.shape[spec.grows]
            inner //= outer * entries
        pieces.append(Piece(end, outer, entries, inner))
        end += outer * inner
    return pieces, end


def storage_of(manifest: Manifest) -> Storage:
    """The one that suits a model's states."""
    specs, library = manifest.states, compiled.library()
    if library is None:
        return Whole(specs)
    entries = [spec.shape[spec.grows] for spec in specs if spec.grows is not None]
    is_chained = bool(entries) and min(entries) > manifest.max_length
    return Packed(specs, library, is_chained=is_chained)
