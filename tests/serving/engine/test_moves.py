"""Rows picked on a device; here the device is the CPU."""

import numpy as np
import pytest

from serving.engine.moves import Mover
from serving.manifest import DTYPES
from serving.placement import CPU


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
