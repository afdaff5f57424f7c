"""The operators that a step graph may have, and what decides how large their results are.

The list has what the exporter writes and its near relatives. None of them runs a graph of its own, is a
loop, reads a file, or draws at random; those whose results are as large as an input says are in SIZES.
"""

from collections.abc import Mapping
from enum import IntEnum

from makemore.onnx.v1 import onnx_pb2 as pb
from serving.errors import BadModel
from serving.quoting import quoted

STANDARD, CONTRIB = "", "com.microsoft"
_ARITHMETIC = """
    Abs Add Ceil Clip Cos Div Einsum Erf Exp Floor Gemm Log MatMul Max Mean Min Mod Mul Neg Pow Reciprocal
    Round Sign Sin Sqrt Sub Sum
"""
_ACTIVATIONS = """
    Celu Elu Gelu HardSigmoid HardSwish LeakyRelu LogSoftmax Mish PRelu Relu Selu Sigmoid Softmax Softplus
    Softsign Swish Tanh ThresholdedRelu
"""
_SUMS = """
    ArgMax ArgMin BatchNormalization CumSum GroupNormalization LayerNormalization LpNormalization
    RMSNormalization ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare
"""
_CHOICES = "And Equal Greater GreaterOrEqual IsNaN Less LessOrEqual Not Or Where Xor"
_PLACES = """
    Cast CastLike Concat Constant ConstantOfShape Expand Flatten Gather GatherElements GatherND Identity
    Reshape ScatterElements ScatterND Shape Size Slice Split Squeeze Tile Transpose Trilu Unsqueeze
"""
_LAYERS = "Attention Conv GRU LSTM RNN RotaryEmbedding"
_CONTRIB = """
    BiasGelu FastGelu FusedMatMul Gelu GroupQueryAttention QuickGelu RotaryEmbedding
    SimplifiedLayerNormalization SkipLayerNormalization SkipSimplifiedLayerNormalization
"""
OPERATORS: Mapping[str, frozenset[str]] = {
    STANDARD: frozenset(
        " ".join((_ARITHMETIC, _ACTIVATIONS, _SUMS, _CHOICES, _PLACES, _LAYERS)).split()
    ),
    CONTRIB: frozenset(_CONTRIB.split()),
}

SIZES: Mapping[tuple[str, str], int] = {
    (STANDARD, "ConstantOfShape"): 0,
    (STANDARD, "Expand"): 1,
    (STANDARD, "Tile"): 1,
    (CONTRIB, "GroupQueryAttention"): 6,
}
"""Which input says how large the result is; of the attention it is the whole sequence's length."""

MAX_ELEMENTS = 2**24
"""That a constant shape may ask for."""


class Origin(IntEnum):
    """What a value depends on; of several inputs the highest counts."""

    CONSTANT = 0
    SHAPE = 1  # on how many rows there are
    DATA = 2


def check_nodes(graph: pb.Graph) -> None:
    """Raise BadModel for an operator that is not allowed, or a size that depends on data or is absurd.

    A size that depends on data cannot be tried out beforehand: it might be small for all tokens but one.
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    origins = dict.fromkeys(constants, Origin.CONSTANT)
    origins |= dict.fromkeys((value.name for value in graph.input), Origin.DATA)
    for place, node in enumerate(graph.node):
        try:
            _check_node(node, origins, constants)
        except BadModel as error:
            raise BadModel(f"node {place} ({quoted(node.op_type)}): {error}") from None


def _check_node(node: pb.Node, origins: dict[str, Origin], constants: dict[str, pb.Tensor]) -> None:
    if node.op_type not in OPERATORS.get(node.domain, ()):
        domain = f" of {quoted(node.domain)}" if node.domain else ""
        raise BadModel(f"the operator{domain} is not one that a step graph may have")
    for name in node.input:
        if name and name not in origins:
            raise BadModel(f"takes {quoted(name)}, which nothing before it gives")
    _check_size(node, origins, constants)
    taken = [origins[name] for name in node.input if name]
    origin = max(taken, default=Origin.CONSTANT)
    if node.op_type in ("Shape", "Size") and taken:
        origin = min(origin, Origin.SHAPE)
    for name in filter(None, node.output):
        if name in origins:
            raise BadModel(f"gives {quoted(name)}, which is there already")
        origins[name] = origin
        if node.op_type == "Constant":
            constants[name] = next((a.t for a in node.attribute), pb.Tensor())


def _check_size(
    node: pb.Node, origins: Mapping[str, Origin], constants: Mapping[str, pb.Tensor]
) -> None:
    place = SIZES.get((node.domain, node.op_type))
    if place is None or place >= len(node.input) or not node.input[place]:
        return
    name = node.input[place]
    if origins[name] is Origin.DATA:
        raise BadModel(f"its size, {quoted(name)}, depends on the data")
    if name in constants:
        elements = 1
        for length in whole_numbers(constants[name]):
            elements *= max(length, 1)
        if elements > MAX_ELEMENTS:
            raise BadModel(f"asks for {elements:.3g} elements; at most {MAX_ELEMENTS:,} are given")


def whole_numbers(tensor: pb.Tensor) -> list[int]:
    """The elements of a tensor of whole numbers; none of other kinds."""
    width = {6: 4, 7: 8}.get(tensor.data_type)
    if width and tensor.raw_data:
        return [
            int.from_bytes(tensor.raw_data[i : i + width], "little", signed=True)
            for i in range(0, len(tensor.raw_data), width)
        ]
    return [*tensor.int32_data, *tensor.int64_data] if width else []
