"""Rows picked on a device; here the device is the CPU."""

import numpy as np
import onnx
import pytest

from serving.engine.moves import KINDS, Mover, picking_graph
from serving.manifest import DTYPES
from serving.placement import CPU


def test_the_graph_is_one_that_onnx_reads_and_finds_right() -> None:
    dtypes = [DTYPES[i % len(DTYPES)] for i in range(200)]  # some lengths take more than one byte
    model = onnx.load_from_string(picking_graph([((2, 3), dtype) for dtype in dtypes]))
    onnx.checker.check_model(model)
    assert (model.ir_version, model.opset_import[0].version) == (10, 20)
    assert [node.op_type for node in model.graph.node] == ["Concat", "Gather"] * 200
    assert model.graph.node[0].attribute[0].i == 0
    assert [value.name for value in model.graph.output] == [f"picked_{i}" for i in range(200)]
    assert [v.type.tensor_type.elem_type for v in model.graph.output] == [KINDS[d] for d in dtypes]


def test_types_have_the_numbers_that_onnx_gives_them() -> None:
    numbers = {d: onnx.helper.np_dtype_to_tensor_dtype(np.dtype(d)) for d in DTYPES}
    assert numbers == KINDS


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_come_from_either_of_two_blocks(dtype: str) -> None:
    mover = Mover([((2, 3), dtype), ((), dtype)], CPU)
    first, second, into = mover.block(4), mover.block(2), mover.block(3)
    chance = np.random.default_rng(1)
    states = [chance.integers(0, 2, (6, *shape)).astype(dtype) for shape in ((2, 3), ())]
    mover.fill(first, [state[:4] for state in states])
    mover.fill(second, [state[4:] for state in states])
    for rows in ([5, 0, 3], [4, 4, 1]):
        mover.pick(first, second, np.array(rows), into)
        for found, state in zip(mover.read(into), states, strict=True):
            assert found.dtype == dtype
            assert found.tolist() == state[rows].tolist()


def test_a_model_without_states_has_nothing_to_move() -> None:
    mover = Mover([], CPU)
    block = mover.block(2)
    mover.pick(block, block, np.array([1, 0]), block)
    assert mover.read(block) == ()
