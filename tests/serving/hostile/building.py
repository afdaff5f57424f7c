"""What hostile step graphs are made of: the good graph, changed."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.serving.graphs import graph, manifest, model_bytes

FAR = 2**40
GOOD = model_bytes(manifest("hostile"))
Change = Callable[[onnx.ModelProto], None]

Archive = dict[str, tuple[bytes, str]]
"""By what is wrong with them: files, and a pattern that the reason matches."""


def changed(into: Archive, name: str, reason: str) -> Callable[[Change], None]:
    """Add the good graph with a change to an archive."""

    def add(change: Change) -> None:
        model = graph()
        change(model)
        into[name] = (model_bytes(manifest("hostile"), model), reason)

    return add


def constant(model: onnx.ModelProto, name: str, values: Any) -> str:
    """Add a constant; its name."""
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
    return name


def node(model: onnx.ModelProto, kind: str, inputs: list[str], output: str, **more: Any) -> str:
    """Add a node; its output's name."""
    model.graph.node.append(helper.make_node(kind, inputs, [output], **more))
    return output


def into_logits(model: onnx.ModelProto, name: str) -> None:
    """Have a scalar added to the logits, so that nothing is left out as not needed."""
    model.graph.node[0].output[0] = "clean"
    node(model, "Add", ["clean", name], "logits")


def summed(model: onnx.ModelProto, name: str) -> str:
    """Add the sum of a value; its name."""
    kept = node(model, "ReduceSum", [name], f"{name}_sum", keepdims=0)
    return node(model, "Cast", [kept], f"{name}_float", to=TensorProto.FLOAT)
