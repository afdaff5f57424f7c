"""A step graph looked at before any runtime reads it: what is refused here never reaches onnxruntime.

The file is parsed by messages of our own (makemore/onnx/v1/onnx.proto), which know of the format only
what a step graph needs. It may still cost memory to parse, so a server does it in a process of its own,
see `serving.verification`.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from makemore.onnx.v1 import onnx_pb2 as pb
from serving.errors import BadModel
from serving.graph_operators import CONTRIB, STANDARD, check_nodes
from serving.manifest import KEY, MAX_NOTES, Manifest
from serving.quoting import quoted

MAX_NODES = 20_000
MAX_RANK = 8
FORMATS = range(7, 14)
OPERATOR_SETS = {STANDARD: range(13, 28), CONTRIB: range(1, 2)}

FLOAT, INT32, INT64, BOOL, DOUBLE = 1, 6, 7, 9, 11
WIDTHS = {FLOAT: 4, 2: 1, 3: 1, INT32: 4, INT64: 8, BOOL: 1, 10: 2, DOUBLE: 8, 16: 2}
"""Bytes an element, by its kind's number in the format; the others are no numbers."""
STATE_KINDS = {"float32": FLOAT, "float64": DOUBLE, "int32": INT32, "int64": INT64, "bool": BOOL}
_STRAYS = {
    ("Attribute", 6): "a subgraph",
    ("Attribute", 11): "subgraphs",
    ("Attribute", 22): "a sparse tensor",
    ("Attribute", 23): "sparse tensors",
    ("Graph", 15): "sparse data",
    ("Model", 20): "a training graph",
    ("Model", 25): "functions",
    ("Tensor", 6): "text",
    ("Tensor", 13): "external data",
    ("Type", 4): "a sequence",
    ("Type", 5): "a map",
}

Interface = Mapping[
    str, tuple[int, tuple[int, ...]]
]  # name to kind and shape without the batch axis


def check(content: bytes) -> Manifest:
    """The manifest of a graph that may be loaded.

    Raises:
        BadModel: the file is no step graph of the kind that is served; the text says why.
    """
    try:
        model = pb.Model.FromString(content)
    except DecodeError:
        raise BadModel("the file is no ONNX graph") from None
    _check_strays(model)
    _check_versions(model)
    manifest = _manifest(model)
    graph = model.graph
    if len(graph.node) > MAX_NODES:
        raise BadModel(f"the graph has {len(graph.node):,} nodes; at most {MAX_NODES:,} are taken")
    _check_constants(graph)
    check_interface(graph, manifest)
    check_nodes(graph)
    return manifest


def _check_strays(message: Message) -> None:
    """Refuse fields that our messages do not know, wherever they are."""
    for unknown in UnknownFieldSet(message):  # type: ignore[attr-defined]  # it is a sequence
        kind, number = message.DESCRIPTOR.name, unknown.field_number
        what = _STRAYS.get((kind, number), f"field {number} of an ONNX {kind}")
        raise BadModel(f"the graph has {what}, which no step graph has")
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in value if isinstance(value, Sequence) else [value]:
                _check_strays(part)


def _check_versions(model: pb.Model) -> None:
    if model.ir_version not in FORMATS:
        raise BadModel(f"the file's format is version {model.ir_version}, which is not known here")
    for operators in model.opset_import:
        if operators.version not in OPERATOR_SETS.get(operators.domain, ()):
            raise BadModel(
                f"version {operators.version} of the operators of "
                f"{quoted(operators.domain) if operators.domain else 'ONNX'} is not known here"
            )


def _manifest(model: pb.Model) -> Manifest:
    found = [entry.value for entry in model.metadata_props if entry.key == KEY]
    if len(found) != 1:
        raise BadModel(f"the graph has {len(found)} metadata properties {KEY}, not one")
    others = sum(len(e.key) + len(e.value) for e in model.metadata_props if e.key != KEY)
    if others > MAX_NOTES:
        raise BadModel(f"the graph has more than {MAX_NOTES:,} characters of other metadata")
    return Manifest.parse(found[0])


def _check_constants(graph: pb.Graph) -> None:
    names = [tensor.name for tensor in graph.initializer]
    if len(set(names)) != len(names):
        raise BadModel("a constant's name stands twice")
    inside = (a.t for node in graph.node for a in node.attribute if a.HasField("t"))
    for tensor in (*graph.initializer, *inside):
        _check_tensor(tensor)


def _check_tensor(tensor: pb.Tensor) -> None:
    name = f"the constant {quoted(tensor.name)}"
    if tensor.data_location:
        raise BadModel(f"{name} is external data, which no step graph has")
    if tensor.data_type not in WIDTHS:
        raise BadModel(f"{name} is of kind {tensor.data_type}, which is no number")
    if len(tensor.dims) > MAX_RANK or any(length < 0 for length in tensor.dims):
        raise BadModel(f"{name} has more than {MAX_RANK} axes, or a negative one")
    elements = math.prod(tensor.dims)
    typed = [
        len(data)
        for data in (tensor.float_data, tensor.int32_data, tensor.int64_data, tensor.double_data)
    ]
    if tensor.raw_data:
        is_whole = elements * WIDTHS[tensor.data_type] == len(tensor.raw_data) and not any(typed)
    else:
        is_whole = elements == sum(typed)
    if not is_whole:
        raise BadModel(f"{name} does not have the {elements:.6g} elements that its shape says")


def check_interface(graph: pb.Graph, manifest: Manifest) -> None:
    """Raise BadModel unless inputs and outputs are exactly those that the manifest names."""
    states = [(s, (STATE_KINDS[s.dtype], s.shape)) for s in manifest.states]
    inputs = {"token": (INT64, ()), **{s.input: kind for s, kind in states}}
    logits = (FLOAT, (len(manifest.vocabulary),))
    outputs = {"logits": logits, **{s.output: kind for s, kind in states}}
    _compare("input", graph.input, inputs)
    _compare("output", graph.output, outputs)
    constants = {tensor.name for tensor in graph.initializer}
    if both := constants & set(inputs):
        raise BadModel(f"input {quoted(min(both))} is a constant too")


def _compare(kind: str, found: Iterable[pb.Value], expected: Interface) -> None:
    names = sorted(value.name for value in found)
    if names != sorted(expected):
        shown, wanted = (quoted(", ".join(n), 200) for n in (names, sorted(expected)))
        raise BadModel(f"the graph's {kind}s are {shown}, not {wanted}")
    for value in found:
        element, shape = expected[value.name]
        axes = value.type.tensor_type.shape.dim
        is_free = len(axes) > 0 and not axes[0].HasField("dim_value")
        lengths = tuple(axis.dim_value for axis in axes[1:])
        if value.type.tensor_type.elem_type != element or not is_free or lengths != shape:
            raise BadModel(
                f"{kind} {quoted(value.name)} is not of the kind and shape that the manifest says: "
                f"element kind {element}, shape [batch, {', '.join(map(str, shape))}]"
            )
