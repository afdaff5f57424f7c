import onnx

from serving.graph_picking import picking_graph
from serving.manifest import DTYPES


def test_the_graph_is_one_that_onnx_finds_right() -> None:
    """Its types inferred are its types told, for states of every kind."""
    model = onnx.load_from_string(picking_graph([((2, 3), dtype) for dtype in DTYPES]))
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["Concat", "Gather"] * len(DTYPES)
