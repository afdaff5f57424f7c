"""Step graphs that look good, and are refused by trying them out."""

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from tests.serving.graphs import V
from tests.serving.hostile.building import (
    GOOD,
    Archive,
    changed,
    constant,
    into_logits,
    node,
    summed,
)

TRIED_OUT: Archive = {}


def _doubled(model: onnx.ModelProto, first: str, times: int = 40) -> str:
    for i in range(times):
        first = node(model, "Concat", [first, first], f"double{i}", axis=0)
    return first


@changed(TRIED_OUT, "doubling of a constant", "memory|bad_alloc|fails when tried out")
def _(model: onnx.ModelProto) -> None:
    into_logits(model, summed(model, _doubled(model, "one")))


@changed(TRIED_OUT, "doubling of the tokens", "memory|bad_alloc|fails when tried out")
def _(model: onnx.ModelProto) -> None:
    into_logits(model, summed(model, _doubled(model, "token")))


@changed(TRIED_OUT, "fourth power of the rows", "memory|bad_alloc|fails when tried out")
def _(model: onnx.ModelProto) -> None:
    """4 KB for two rows, 16 GB for 256."""
    factor = node(model, "Cast", ["token"], "factor", to=TensorProto.FLOAT)
    axes = [constant(model, f"axes{i}", [a for a in range(4) if a != i]) for i in range(4)]
    parts = [node(model, "Unsqueeze", [factor, a], f"part{i}") for i, a in enumerate(axes)]
    for i, part in enumerate(parts[1:]):
        factor = node(model, "Add", [factor if i else parts[0], part], f"product{i}")
    into_logits(model, summed(model, factor))


@changed(TRIED_OUT, "a year of work", "took too long")
def _(model: onnx.ModelProto) -> None:
    side = constant(model, "side", np.array([2048, 2048]))
    value = numpy_helper.from_array(np.array([1e-4], np.float32))
    first = work = node(model, "ConstantOfShape", [side], "first", value=value)
    batch = node(model, "Cast", ["count_in"], "batch", to=TensorProto.FLOAT)
    zero = node(model, "ReduceSum", [batch], "zero", keepdims=0)
    work = node(model, "Add", [work, zero], "begun")  # not to be done when it is loaded
    for i in range(10_000):
        work = node(model, "MatMul", [work, first], f"work{i}")
    into_logits(model, summed(model, work))


@changed(TRIED_OUT, "no numbers", "logits are no numbers")
def _(model: onnx.ModelProto) -> None:
    table = np.full((V, V), np.nan, np.float32)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(table, "table"))


@changed(TRIED_OUT, "rows that look at each other", "depend on the strings beside it")
def _(model: onnx.ModelProto) -> None:
    sums = node(model, "ReduceMax", ["token"], "sums", keepdims=0)
    table = np.eye(V, dtype=np.float32) * np.arange(V, dtype=np.float32)
    most = node(model, "Gather", [constant(model, "more", table), sums], "most", axis=0)
    into_logits(model, most)


@changed(TRIED_OUT, "state of another shape than it says", "output .count_out. is|after a step")
def _(model: onnx.ModelProto) -> None:
    model.graph.node[1].output[0] = "narrow"
    node(model, "Concat", ["narrow", "narrow"], "count_out", axis=1)


def _parse_bomb() -> bytes:
    """Some megabytes of empty nodes, which take a hundred times that once they are parsed."""
    nodes = b"\x0a\x00" * 8_000_000
    length, content = len(nodes), bytearray(b"\x3a")
    while length > 127:
        content.append(length & 127 | 128)
        length >>= 7
    content.append(length)
    return GOOD + bytes(content) + nodes


TRIED_OUT["millions of empty nodes"] = (_parse_bomb(), "memory|nodes; at most|is no ONNX graph")
