"""What is refused by looking at a graph, and that what is looked at is what ONNX means."""

import random

import onnx
import pytest
from google.protobuf.descriptor import Descriptor

from makemore.onnx.v1 import onnx_pb2 as pb
from serving.errors import BadModel
from serving.graph_check import check
from tests.conftest import COMMITTED
from tests.serving.graphs import manifest, model_bytes
from tests.serving.hostile import LOOKED_AT

ONNX_NAMES = {
    "Model": onnx.ModelProto,
    "OperatorSet": onnx.OperatorSetIdProto,
    "Entry": onnx.StringStringEntryProto,
    "Graph": onnx.GraphProto,
    "Node": onnx.NodeProto,
    "Attribute": onnx.AttributeProto,
    "Tensor": onnx.TensorProto,
    "Value": onnx.ValueInfoProto,
    "Type": onnx.TypeProto,
    "TensorType": onnx.TypeProto.Tensor,
    "Shape": onnx.TensorShapeProto,
    "Dimension": onnx.TensorShapeProto.Dimension,
}


def wire(message: Descriptor) -> dict[int, tuple[str, bool, bool]]:
    """By number: each field's name, whether it is repeated, whether it is a message."""
    return {f.number: (f.name, f.is_repeated, f.message_type is not None) for f in message.fields}


@pytest.mark.parametrize("name", ONNX_NAMES)
def test_our_messages_are_onnxs_with_fields_left_out(name: str) -> None:
    ours = wire(pb.DESCRIPTOR.message_types_by_name[name])
    theirs = wire(ONNX_NAMES[name].DESCRIPTOR)  # type: ignore[attr-defined]
    assert ours
    assert {number: theirs[number] for number in ours} == ours


def test_all_of_our_messages_are_compared() -> None:
    assert set(pb.DESCRIPTOR.message_types_by_name) == set(ONNX_NAMES)


def test_a_good_graph_gives_its_manifest() -> None:
    assert check(model_bytes()) == manifest()
    committed = (COMMITTED / "names" / "2" / "model.onnx").read_bytes()
    assert check(committed).name == "names"


@pytest.mark.parametrize("name", LOOKED_AT)
def test_a_hostile_graph_is_refused_with_the_reason(name: str) -> None:
    content, reason = LOOKED_AT[name]
    with pytest.raises(BadModel, match=reason) as caught:
        check(content)
    assert len(str(caught.value)) < 1000


def test_whatever_is_done_to_a_file_it_is_taken_or_refused() -> None:
    """Bytes changed, left out and repeated: no error but the one that a refusal is."""
    chance, good, taken = random.Random(0), model_bytes(), 0
    for _ in range(1000):
        content = bytearray(good)
        for _ in range(chance.randint(1, 4)):
            place, length = chance.randrange(len(content)), chance.randint(1, 8)
            match chance.randrange(4):
                case 0:
                    content[place] = chance.randrange(256)
                case 1:
                    del content[place : place + length]
                case 2:
                    content[place:place] = content[place : place + length]
                case 3:
                    content[place : place + length] = chance.randbytes(length)
        try:
            check(bytes(content))
            taken += 1
        except BadModel:
            pass
    assert taken < 500
