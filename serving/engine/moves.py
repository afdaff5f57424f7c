"""Rows of states that stay where they are computed, and picking among them there."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.engine import devices
from serving.engine.runtime import onnxruntime
from serving.graph_picking import Spec, picking_graph

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Block:
    """Rows of every state, on a device: an OrtValue [rows, ...] each."""

    values: tuple[Any, ...]
    rows: int
    bindings: dict[tuple["Block", "Block"], Any] = field(default_factory=dict)
    """Of what was picked into it; here, so that they go when it goes."""


class Mover:
    """Makes blocks on a device and picks rows from them.

    Args:
        specs: of each state.
        device: where.
    """

    def __init__(self, specs: Sequence[Spec], device: str) -> None:
        self.device = device
        self._specs = specs
        self._indices: dict[int, Any] = {}
        if specs:
            graph = picking_graph(specs)
            self._session = devices.open_graph(graph, device, devices.device_options())

    def value(self, array: Array) -> Any:
        """An array's copy on the device."""
        # Not made from the array itself: where the device is the CPU, it would be that array.
        made = onnxruntime.OrtValue.ortvalue_from_shape_and_type
        value = made(array.shape, array.dtype, self.device, 0)
        value.update_inplace(array)
        return value

    def block(self, rows: int) -> Block:
        """So many rows of every state, all zero."""
        values = [self.value(np.zeros((rows, *shape), dtype)) for shape, dtype in self._specs]
        return Block(tuple(values), rows)

    def fill(self, block: Block, states: Sequence[Array]) -> None:
        """Copy states of the host, [block.rows, ...] each, into a block."""
        for value, state in zip(block.values, states, strict=True):
            value.update_inplace(state)

    def read(self, block: Block) -> tuple[Array, ...]:
        """A block's states, copied to the host: [block.rows, ...] each."""
        return tuple(value.numpy().copy() for value in block.values)

    def pick(self, first: Block, second: Block, rows: npt.NDArray[np.int64], into: Block) -> None:
        """Copy rows into a block that is neither of the two that they come from.

        Args:
            first: where rows from 0 on are.
            second: where rows from `first.rows` on are.
            rows: which of them, [into.rows].
            into: the block that they fill.
        """
        if not self._specs:
            return
        if len(rows) not in self._indices:
            self._indices[len(rows)] = self.value(rows)
        self._indices[len(rows)].update_inplace(rows)
        if (first, second) not in into.bindings:
            into.bindings[first, second] = self._bound(first, second, into)
        self._session.run_with_iobinding(into.bindings[first, second])

    def _bound(self, first: Block, second: Block, into: Block) -> Any:
        binding = self._session.io_binding()
        binding.bind_ortvalue_input("rows", self._indices[into.rows])
        for i, values in enumerate(zip(first.values, second.values, into.values, strict=True)):
            binding.bind_ortvalue_input(f"first_{i}", values[0])
            binding.bind_ortvalue_input(f"second_{i}", values[1])
            binding.bind_ortvalue_output(f"picked_{i}", values[2])
        return binding
