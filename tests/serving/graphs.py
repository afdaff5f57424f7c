"""Step graphs made by hand, good and bad, without PyTorch."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from serving.manifest import KEY, Manifest, StateSpec

ALPHABET = ("a", "b")
V = 3


def manifest(name: str = "good", **changes: Any) -> Manifest:
    """The manifest of `graph()`: the state counts the characters."""
    state = StateSpec("count", "count_in", "count_out", "int64", (1,))
    values: dict[str, Any] = {"name": name, "architecture": "by hand", "alphabet": ALPHABET}
    return Manifest(**{**values, "max_length": 4, "states": (state,), **changes})


def graph(table: Any = None, logits: str = "logits", opset: int = 20) -> onnx.ModelProto:
    """Logits are a row of a table for each token; one state counts."""
    rows = np.zeros((V, V), np.float32) if table is None else np.asarray(table, np.float32)
    token = helper.make_tensor_value_info("token", TensorProto.INT64, ["batch"])
    count_in = helper.make_tensor_value_info("count_in", TensorProto.INT64, ["batch", 1])
    count_out = helper.make_tensor_value_info("count_out", TensorProto.INT64, ["batch", 1])
    out = helper.make_tensor_value_info(logits, TensorProto.FLOAT, ["batch", V])
    nodes = [
        helper.make_node("Gather", ["table", "token"], [logits], axis=0),
        helper.make_node("Add", ["count_in", "one"], ["count_out"]),
    ]
    constants = [
        numpy_helper.from_array(rows, "table"),
        numpy_helper.from_array(np.array([1], np.int64), "one"),
    ]
    made = helper.make_graph(nodes, "g", [token, count_in], [out, count_out], constants)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def model_bytes(about: Manifest | str | None = None, model: onnx.ModelProto | None = None) -> bytes:
    """A file's bytes with a manifest inside."""
    model = model or graph()
    about = manifest() if about is None else about
    helper.set_model_props(model, {KEY: about if isinstance(about, str) else about.to_json()})
    return model.SerializeToString()


def publish(repository: Path, content: bytes, name: str = "good", version: int = 1) -> Path:
    """A version's folder with the sums of its only file."""
    folder = repository / name / str(version)
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    (folder / "SHA256SUMS").write_text(f"{digest}  model.onnx\n")
    return folder
