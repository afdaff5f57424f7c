"""A graph that picks rows of states from two blocks of them, so that a runtime does it where they are."""

from collections.abc import Sequence

from makemore.onnx.v1 import onnx_pb2 as pb
from serving.graph_check import STATE_KINDS

IR_VERSION, OPSET = 10, 20
WHOLE_NUMBER = 2  # the type of an attribute

Spec = tuple[tuple[int, ...], str]  # a state's shape without the batch axis, and its type


def picking_graph(specs: Sequence[Spec]) -> bytes:
    """The graph of picked_0 = Concat(first_0, second_0)[rows], and so on for every state."""
    graph = pb.Graph(name="pick", input=[_value("rows", ((), "int64"))])
    axis = pb.Attribute(name="axis", i=0, type=WHOLE_NUMBER)
    for i, spec in enumerate(specs):
        first, second, both, picked = (f"{s}_{i}" for s in ("first", "second", "both", "picked"))
        graph.node.add(op_type="Concat", input=[first, second], output=[both], attribute=[axis])
        graph.node.add(op_type="Gather", input=[both, "rows"], output=[picked])
        graph.input.extend([_value(first, spec), _value(second, spec)])
        graph.output.append(_value(picked, spec))
    operators = pb.OperatorSet(version=OPSET)
    return pb.Model(
        ir_version=IR_VERSION, graph=graph, opset_import=[operators]
    ).SerializeToString()


def _value(name: str, spec: Spec) -> pb.Value:
    """A tensor of any number of rows."""
    shape, dtype = spec
    axes = [pb.Dimension(), *(pb.Dimension(dim_value=length) for length in shape)]
    tensor = pb.TensorType(elem_type=STATE_KINDS[dtype], shape=pb.Shape(dim=axes))
    return pb.Value(name=name, type=pb.Type(tensor_type=tensor))
