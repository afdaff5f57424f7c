"""Step graphs that are refused by looking at them."""

import json
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.serving.graphs import V, graph, manifest, model_bytes
from tests.serving.hostile.building import (
    FAR,
    GOOD,
    Archive,
    changed,
    constant,
    into_logits,
    node,
    summed,
)

LOOKED_AT: Archive = {}


@changed(LOOKED_AT, "external data", "has external data")
def _(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../../etc/passwd")


@changed(LOOKED_AT, "external data by its mark alone", "is external data")
def _(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL


def _body() -> onnx.GraphProto:
    condition = helper.make_tensor_value_info("condition", TensorProto.BOOL, [])
    turn = helper.make_tensor_value_info("turn", TensorProto.INT64, [])
    node = helper.make_node("Identity", ["condition"], ["condition_out"])
    out = helper.make_tensor_value_info("condition_out", TensorProto.BOOL, [])
    return helper.make_graph([node], "body", [turn, condition], [out])


@changed(LOOKED_AT, "endless loop", "has a subgraph")
def _(model: onnx.ModelProto) -> None:
    constant(model, "turns", np.int64(FAR))
    constant(model, "true", np.bool_(True))
    model.graph.node.append(helper.make_node("Loop", ["turns", "true"], [], body=_body()))


@changed(LOOKED_AT, "branches", "has a subgraph")
def _(model: onnx.ModelProto) -> None:
    constant(model, "true", np.bool_(True))
    branch = helper.make_graph([], "branch", [], [])
    model.graph.node.append(
        helper.make_node("If", ["true"], [], then_branch=branch, else_branch=branch)
    )


@changed(LOOKED_AT, "functions within functions", "has functions")
def _(model: onnx.ModelProto) -> None:
    """Thirty of them, each of which calls the one before it twice: a billion nodes."""
    opset = [helper.make_opsetid("", 20), helper.make_opsetid("laughs", 1)]
    for depth in range(30):
        inner = ("Neg", "") if depth == 0 else (f"F{depth - 1}", "laughs")
        nodes = [
            helper.make_node(inner[0], [before], [after], domain=inner[1])
            for before, after in (("x", "y"), ("y", "z"))
        ]
        model.functions.append(
            helper.make_function("laughs", f"F{depth}", ["x"], ["z"], nodes, opset)
        )
    model.opset_import.append(opset[1])


@changed(LOOKED_AT, "huge constant", r"'ConstantOfShape'\): asks for 1.1e\+12 elements")
def _(model: onnx.ModelProto) -> None:
    into_logits(
        model, summed(model, node(model, "ConstantOfShape", [constant(model, "far", [FAR])], "c"))
    )


@changed(LOOKED_AT, "huge constant whose shape is a node", "asks for 1.1e")
def _(model: onnx.ModelProto) -> None:
    far = numpy_helper.from_array(np.array([FAR]), "inner")
    model.graph.node.append(helper.make_node("Constant", [], ["far"], value=far))
    into_logits(model, summed(model, node(model, "ConstantOfShape", ["far"], "c")))


@changed(LOOKED_AT, "huge expansion", "'Expand'.*asks for")
def _(model: onnx.ModelProto) -> None:
    into_logits(
        model, summed(model, node(model, "Expand", ["one", constant(model, "far", [FAR])], "c"))
    )


@changed(LOOKED_AT, "huge tiles", "'Tile'.*asks for")
def _(model: onnx.ModelProto) -> None:
    into_logits(
        model, summed(model, node(model, "Tile", ["one", constant(model, "far", [FAR])], "c"))
    )


@changed(LOOKED_AT, "huge range", "'Range'.*is not one that a step graph may have")
def _(model: onnx.ModelProto) -> None:
    far = [constant(model, f"far{i}", np.int64(n)) for i, n in enumerate((0, FAR, 1))]
    into_logits(model, summed(model, node(model, "Range", far, "c")))


@changed(LOOKED_AT, "size that depends on the token", "its size, 'size', depends on the data")
def _(model: onnx.ModelProto) -> None:
    """Nothing for the boundary, a terabyte for the letter b."""
    power = node(model, "Mul", ["token", constant(model, "far", np.array([FAR]))], "power")
    node(model, "ReduceMax", [power], "size", keepdims=1)
    into_logits(model, summed(model, node(model, "ConstantOfShape", ["size"], "c")))


@changed(
    LOOKED_AT,
    "operator of another domain",
    "operator of 'evil.example' is not one|operators of 'evil",
)
def _(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("evil.example", 1))
    into_logits(model, node(model, "RunCode", ["one"], "c", domain="evil.example"))


@changed(LOOKED_AT, "random numbers", "'RandomNormal'.*is not one")
def _(model: onnx.ModelProto) -> None:
    into_logits(model, node(model, "RandomNormal", [], "c", shape=[1]))


@changed(LOOKED_AT, "sparse constant", "has sparse data")
def _(model: onnx.ModelProto) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "sparse")
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "indices")
    sparse = helper.make_sparse_tensor(values, indices, [FAR])
    model.graph.sparse_initializer.append(sparse)


@changed(LOOKED_AT, "constant that is not there", "does not have the 1.09951e.12 elements")
def _(model: onnx.ModelProto) -> None:
    model.graph.initializer[1].dims[0] = FAR


@changed(LOOKED_AT, "constant with a negative axis", "or a negative one")
def _(model: onnx.ModelProto) -> None:
    model.graph.initializer[1].dims[0] = -1


@changed(LOOKED_AT, "constant with a thousand axes", "more than 8 axes")
def _(model: onnx.ModelProto) -> None:
    model.graph.initializer[1].dims.extend([1] * 1000)


@changed(LOOKED_AT, "constant of text", "has text")
def _(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(
        onnx.TensorProto(name="text", data_type=8, dims=[1], string_data=[b"x"])
    )


@changed(LOOKED_AT, "wrong name", "outputs are 'count_out, logitz', not 'count_out, logits'")
def _(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = model.graph.node[0].output[0] = "logitz"


@changed(LOOKED_AT, "wrong shape", r"output 'logits' is not of the kind and shape .* \[batch, 3\]")
def _(model: onnx.ModelProto) -> None:
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = V + 1


@changed(LOOKED_AT, "wrong kind", "input 'token' is not of the kind")
def _(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT32


@changed(LOOKED_AT, "one number of rows", "input 'token' is not of the kind")
def _(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


@changed(LOOKED_AT, "no shape", "output 'logits' is not of the kind")
def _(model: onnx.ModelProto) -> None:
    model.graph.output[0].type.tensor_type.ClearField("shape")


@changed(LOOKED_AT, "sequence for a tensor", "has a sequence")
def _(model: onnx.ModelProto) -> None:
    inner = helper.make_tensor_type_proto(TensorProto.FLOAT, [1])
    model.graph.output[0].type.CopyFrom(helper.make_sequence_type_proto(inner))


@changed(LOOKED_AT, "input that is a constant", "input 'token' is a constant too")
def _(model: onnx.ModelProto) -> None:
    constant(model, "token", np.zeros(1, np.int64))


@changed(LOOKED_AT, "value out of nowhere", r"takes 'nowhere\\n\\x1b\[2J', which nothing")
def _(model: onnx.ModelProto) -> None:
    model.graph.node[1].input[1] = "nowhere\n\x1b[2J"


@changed(LOOKED_AT, "value twice", "gives 'logits', which is there already")
def _(model: onnx.ModelProto) -> None:
    model.graph.node[1].output.append("logits")


@changed(LOOKED_AT, "too many nodes", "nodes; at most 20,000")
def _(model: onnx.ModelProto) -> None:
    for _ in range(20_001):
        model.graph.node.add(op_type="Identity")


@changed(LOOKED_AT, "operators of the future", "version 99 of the operators of ONNX")
def _(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 99


@changed(LOOKED_AT, "format of the future", "format is version 99")
def _(model: onnx.ModelProto) -> None:
    model.ir_version = 99


@changed(LOOKED_AT, "field of the future", "field 99 of an ONNX Model")
def _(model: onnx.ModelProto) -> None:
    model.MergeFromString(b"\x9a\x06\x01x")


_TWO = onnx.ModelProto.FromString(GOOD)
_TWO.metadata_props.add(key="makemore.manifest", value="{}")
_NOTED = onnx.ModelProto.FromString(GOOD)
_NOTED.metadata_props.add(key="note", value="x" * 2**20)
LOOKED_AT |= {
    "metadata of a megabyte": (_NOTED.SerializeToString(), "characters of other metadata"),
    "two manifests": (_TWO.SerializeToString(), "2 metadata properties"),
    "no manifest": (graph().SerializeToString(), "0 metadata properties"),
    "no JSON": (model_bytes("{" * 100_000, graph()), "manifest: not JSON"),
    "large manifest": (model_bytes(" " * (2**21 + 1), graph()), "more than 2,097,152 characters"),
    "huge states": (
        model_bytes(
            manifest("hostile")
            .to_json()
            .replace('"shape": [1]', '"shape": [67108864, 67108864]'),
            graph(),
        ),
        "states: bytes a row",
    ),
    "no graph": (b"not a graph", "is no ONNX graph"),
    "nothing": (b"", "format is version 0"),
    "half": (GOOD[: len(GOOD) // 2], "is no ONNX graph"),
    "messages within messages": (b"\x3a\xff\x7f" * 5000, "is no ONNX graph"),
}  # fmt: skip


def _telling(reason: str, **changes: Any) -> tuple[bytes, str]:
    """The good graph with another manifest, which nothing has checked."""
    about = json.loads(manifest("hostile").to_json()) | changes
    return model_bytes(json.dumps(about), graph()), reason


def _nested(levels: int) -> Any:
    value: Any = "the bottom"
    for level in range(levels):
        value = [value] if level % 2 else {"inner": value}
    return value


_MANY = tuple(map(chr, range(0x4E00, 0x4E00 + 4097)))
_STATE: dict[str, Any] = json.loads(manifest("hostile").to_json())["states"][0]
_LONG = "x" * 2**20
_NUMBERS = list(map(str, range(10**5)))
_ROW = [-1.0] * 101


def _state(number: int) -> dict[str, Any]:
    return _STATE | {key: f"{key}{number}" for key in ("name", "input", "output")}


def _held_out(lengths: list[int], row: list[float]) -> tuple[bytes, str]:
    table = {"lengths": lengths, "quantiles": [row] * len(lengths)}
    return _telling("held_out: is no table", held_out=table)


LOOKED_AT |= {
    "note nested 500 levels deep": _telling("training: .*levels deep", training=_nested(500)),
    "unknown key nested 500 levels deep": _telling("new: .*levels deep", new=_nested(500)),
    "list for a name, nested 900 levels deep": _telling("levels deep", name=_nested(900)),
    "version nested 500 levels deep": _telling("levels deep", format_version=_nested(500)),
    "states nested 500 levels deep": _telling("levels deep", states=_nested(500)),
    "metrics nested 12 levels deep": _telling("metrics: .*more than 8 levels", metrics={"a": _nested(11)}),
    "architecture of a megabyte": _telling("architecture: 'xxx", architecture="x" * 2**20),
    "architecture that steers a terminal": _telling("architecture: ", architecture="\x1b[2J"),
    "architecture with a line's end": _telling("architecture: ", architecture="lstm\n"),
    "name of a megabyte": _telling("name: 'xxx", name="x" * 2**20),
    "name that is a path": _telling("name: '../", name="../../etc"),
    "huge alphabet": _telling("alphabet: has more than 4,096 characters", alphabet=_MANY),
    "alphabet with a megabyte in it": _telling("alphabet: ", alphabet=["a" * 2**20, "b"]),
    "alphabet that steers a terminal": _telling("control character", alphabet=["\x1b", "b"]),
    "alphabet with a tab": _telling("control character", alphabet=["a", "\t"]),
    "alphabet with C1 controls": _telling("control character", alphabet=["a", "\x9b"]),
    "alphabet that reorders text": _telling("control character", alphabet=["a", "\u202e"]),
    "alphabet with half a pair": _telling("half a surrogate", alphabet=["a", "\ud800"]),
    "notes of a megabyte": _telling("dataset: has more than 65,536", dataset={"a": "x" * 2**20}),
    "100,000 notes": _telling("parity: has more than 65,536", parity=dict.fromkeys(_NUMBERS, 0)),
    "unknown key of a megabyte": _telling("a key must be", **{"x" * 2**20: 1}),
    "100,000 unknown keys": _telling("extra: has more than", **{f"x{i}": 0 for i in range(10**5)}),
    "infinite metric": _telling("metrics: .*nor a finite number", metrics={"far": float("inf")}),
    "metric that is no number": _telling("nor a finite number", metrics={"far": [float("nan")]}),
    "whole number of 4,000 digits": _telling("extra|far: is not from", far=10**4000),
    "20,000 states": _telling("has more than", states=[_STATE] * 20_000),
    "2,000 states": _telling("states: has more than 1,024", states=[_state(i) for i in range(2000)]),
    "state with a name of a megabyte": _telling("states: 'xxx", states=[_STATE | {"name": _LONG}]),
    "state with a thousand axes": _telling("at most 7 axes", states=[_STATE | {"shape": [1] * 1000}]),
    "state with a huge axis": _telling("states: ", states=[{**_STATE, "shape": [2**62, 2**62]}]),
    "held-out strings of 5,000 lengths": _held_out(list(range(5000)), _ROW[:1]),
    "held-out strings of a huge length": _held_out([2**60], _ROW),
    "held-out strings that are infinitely likely": _held_out([1], [*_ROW[:-1], 1e308]),
}  # fmt: skip
