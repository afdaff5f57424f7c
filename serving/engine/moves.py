"""Rows of states that stay where they are computed, and choosing among them there.

A graph of two operators a state does it: Concat puts two blocks of rows together, Gather takes the rows
that are wanted. It is a dozen fields of ONNX's own format, written here, since serving goes without the
package `onnx`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.engine import devices
from serving.engine.runtime import onnxruntime

Array = npt.NDArray[Any]
Spec = tuple[tuple[int, ...], str]  # a state's shape without the batch axis, and its type
IR_VERSION, OPSET = 10, 20
KINDS = {"float32": 1, "int32": 6, "int64": 7, "bool": 9, "float64": 11}
"""ONNX's numbers of the types that a state may have."""


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
        value = onnxruntime.OrtValue.ortvalue_from_shape_and_type(
            array.shape, array.dtype, self.device, 0
        )
        value.update_inplace(
            array
        )  # made from an array, it would be that array where device is cpu
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


def picking_graph(specs: Sequence[Spec]) -> bytes:
    """A graph that picks rows of states: picked_0 = Concat(first_0, second_0)[rows], and so on."""
    nodes, inputs, outputs = [], [_value("rows", ((), "int64"))], []
    axis = _field(1, "axis") + _field(3, 0) + _field(20, 2)  # a whole number
    for i, spec in enumerate(specs):
        first, second, both, picked = (f"{s}_{i}" for s in ("first", "second", "both", "picked"))
        nodes.append(_node("Concat", [first, second], both) + _field(5, axis))
        nodes.append(_node("Gather", [both, "rows"], picked))
        inputs += [_value(first, spec), _value(second, spec)]
        outputs.append(_value(picked, spec))
    graph = b"".join(_field(1, node) for node in nodes) + _field(2, "pick")
    graph += b"".join(_field(11, value) for value in inputs)
    graph += b"".join(_field(12, value) for value in outputs)
    opset = _field(1, "") + _field(2, OPSET)
    return _field(1, IR_VERSION) + _field(7, graph) + _field(8, opset)


def _node(operator: str, inputs: Sequence[str], output: str) -> bytes:
    return b"".join(_field(1, name) for name in inputs) + _field(2, output) + _field(4, operator)


def _value(name: str, spec: Spec) -> bytes:
    """A tensor of any size along its axes."""
    shape, dtype = spec
    axes = _field(1, b"") * (1 + len(shape))
    return _field(1, name) + _field(2, _field(1, _field(1, KINDS[dtype]) + _field(2, axes)))


def _field(number: int, value: int | bytes | str) -> bytes:
    """A field as protobuf writes it: its number and kind, then a number, or bytes after their length."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    content = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])
