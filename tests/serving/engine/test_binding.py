"""Steps whose arrays stay where they are, and how they are run."""

from functools import partial
from typing import Any

import numpy as np
import pytest

from serving.engine import devices
from serving.engine.binding import Binding, Home, whole
from serving.engine.stepping import initial_states
from tests.serving.graphs import manifest, model_bytes


class Narrow:
    """An onnxruntime session with nothing but what is promised of one."""

    def __init__(self, session: Any) -> None:
        self.io_binding, self.run_with_iobinding = session.io_binding, session.run_with_iobinding


@pytest.fixture
def session() -> Any:
    return devices.open_graph(model_bytes(), "cpu", devices.session_options(1))


def test_the_short_way_is_there(session: Any) -> None:
    run = devices.runner(session, session.io_binding())
    assert isinstance(run, partial)
    assert run.func == session._sess.run_with_iobinding


@pytest.mark.parametrize("kind", [lambda session: session, Narrow])
def test_a_step_is_the_same_by_either_way(kind: Any, session: Any) -> None:
    specs = manifest().states
    before = initial_states(specs, 3)
    home = Home(before[0], 3)
    step = Binding(kind(session), specs, before, (home.partner(before[0]),), home.logits(3))
    logits, (after,) = step.run(np.array([2, 0, 1]))
    assert logits.shape == (3, 3)
    assert after.tolist() == [[1]] * 3
    assert before[0].tolist() == [[0]] * 3


def test_what_is_written_goes_to_the_same_place_for_any_beginning_of_an_array() -> None:
    array = np.zeros((8, 2))
    home = Home(array, 3)
    partner = home.partner(array)
    assert home.partner(partner) is array
    assert home.partner(array[:3]).base is partner
    assert home.has(array)
    assert home.has(partner)
    assert not home.has(array[:3])


def test_only_a_beginning_with_whole_rows_is_one_of_its_array() -> None:
    array = np.zeros((8, 2))
    assert whole(array) is array
    assert whole(array[:3]) is array
    for other in (array[1:3], array[:, :1], array.reshape(4, 4), np.frombuffer(bytes(16))):
        assert whole(other) is other


def test_logits_of_as_many_rows_are_the_same_array() -> None:
    home = Home(np.zeros((8, 2)), 3)
    few = home.logits(2)
    assert home.logits(2) is few
    assert np.shares_memory(home.logits(3), home.logits(4))
    assert few.shape == (2, 3)
