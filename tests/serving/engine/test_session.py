import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from serving.engine.session import MAX_BINDINGS, MAX_HOMES, OrtSession
from serving.engine.stepping import FEWEST, initial_states
from serving.errors import BadModel
from serving.manifest import StateSpec
from serving.repository import load_version
from tests.conftest import COMMITTED
from tests.serving.graphs import graph, manifest, model_bytes


def test_a_step_gives_logits_and_the_states_after_it() -> None:
    table = np.arange(9).reshape(3, 3)
    session = OrtSession(model_bytes(model=graph(table)))
    states = initial_states(session.manifest.states, 3)
    for count in (1, 2):
        logits, states = session.step(np.array([2, 0, 1]), states)
        assert logits.tolist() == table[[2, 0, 1]].tolist()
        assert states[0].tolist() == [[count]] * 3


def test_a_single_row_is_stepped_as_one_of_two() -> None:
    session = OrtSession(model_bytes())
    logits, states = session.step(np.array([1]), initial_states(session.manifest.states, 1))
    assert (logits.shape, states[0].shape) == ((1, 3), (1, 1))


def by_their_number() -> bytes:
    """A graph whose logits tell how many rows there are."""
    model = graph()
    model.graph.node[0].output[0] = "plain"
    model.graph.node.extend(
        [
            helper.make_node("Shape", ["token"], ["rows"]),
            helper.make_node("Cast", ["rows"], ["number"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["plain", "number"], ["logits"]),
        ]
    )
    return model_bytes(model=model)


@pytest.mark.parametrize("how", ["step", "advance"])
def test_a_single_row_is_stepped_as_two_where_it_would_get_other_bits_by_itself(how: str) -> None:
    session = OrtSession(by_their_number())
    assert session.min_rows == FEWEST
    states = initial_states(session.manifest.states, 1)
    for count in (1, 2, 3):
        logits, states = getattr(session, how)(np.array([1]), states)
        assert logits.tolist() == [[FEWEST] * 3]
        assert states[0].tolist() == [[count]]


def test_a_single_row_is_stepped_by_itself_where_it_gets_the_same_bits() -> None:
    assert OrtSession(model_bytes()).min_rows == 1


@pytest.mark.parametrize("how", ["step", "advance"])
def test_a_single_row_gets_every_bit_that_it_gets_among_others(how: str) -> None:
    session = load_version(COMMITTED / "names" / "2").session
    states = initial_states(session.manifest.states, 1)
    every = initial_states(session.manifest.states, 5)
    for token in (0, 3, 14, 1):
        before = tuple(state.copy() for state in states)
        logits, after = getattr(session, how)(np.array([token]), states)
        if how == "step":
            assert all((a == b).all() for a, b in zip(states, before, strict=True))
        expected, every = session.step(np.array([5, 7, token, 2, 9]), every)
        assert logits.tobytes() == expected[2:3].tobytes()
        assert all(a.tobytes() == b[2:3].tobytes() for a, b in zip(after, every, strict=True))
        states = after


def test_what_one_step_of_a_single_row_gave_is_not_changed_by_another() -> None:
    session = load_version(COMMITTED / "names" / "2").session
    states = initial_states(session.manifest.states, 1)
    logits, after = session.step(np.array([1]), states)
    kept = [array.copy() for array in (logits, *after)]
    session.step(np.array([2]), after)
    assert all((a == b).all() for a, b in zip((logits, *after), kept, strict=True))


def renamed(*, in_place: bool = False, **names: str) -> StateSpec:
    spec = {"name": "count", "input": "count_in", "output": "count_out", "dtype": "int64"}
    return StateSpec(**{**spec, **names}, shape=(1,), in_place=in_place)  # type: ignore[arg-type]


def test_steps_in_place_are_kept_ready_for_a_few_arrays_and_are_right_for_all() -> None:
    session = OrtSession(model_bytes(manifest(states=(renamed(in_place=True),))))
    for _ in range(3 * MAX_HOMES):
        states = initial_states(session.manifest.states, MAX_BINDINGS + 9)
        for rows in range(2, len(states[0]) + 1):
            part = states[0][:rows]
            _, (after,) = session.advance(np.zeros(rows, np.int64), (part,))
            assert np.shares_memory(after, part)
            assert after[-1] == 1  # the row that was not there before
        assert states[0][0] == len(states[0]) - 1
        assert len(session._homes) <= MAX_HOMES
        assert all(len(home.bindings) <= MAX_BINDINGS for home in session._homes)
        assert len(session._ready) <= MAX_BINDINGS
    kept = session._homes
    assert all(
        any(ready in home.bindings.values() for home in kept)
        for _, ready in session._ready.values()
    )
    for _ in range(2 * MAX_BINDINGS):  # the same array, as it comes from elsewhere
        session.advance(np.zeros(2, np.int64), (states[0][:2],))
    assert len(session._ready) <= MAX_BINDINGS


@pytest.mark.parametrize("rows", [2, 7])
def test_steps_that_are_not_in_place_go_to_and_fro_between_two_arrays(rows: int) -> None:
    session = load_version(COMMITTED / "names" / "2").session
    plain = states = initial_states(session.manifest.states, rows)
    places: set[tuple[int, ...]] = set()
    for token in range(8):
        tokens = np.full(rows, token)
        logits, states = session.advance(tokens, states)
        wanted, plain = session.step(tokens, plain)
        assert logits.tobytes() == wanted.tobytes()
        assert all((a == b).all() for a, b in zip(states, plain, strict=True))
        places.add(tuple(state.ctypes.data for state in states))
    assert len(places) == 2
    assert isinstance(session, OrtSession)
    assert [len(home.bindings) for home in session._homes] == [2]


def test_steps_of_more_and_fewer_rows_of_the_same_arrays_are_right_and_share_memory() -> None:
    session = load_version(COMMITTED / "names" / "2").session
    arrays = initial_states(session.manifest.states, 9)
    chance = np.random.default_rng(7)
    written: set[int] = set()
    for rows in (2, 3, 8, 9):
        session.advance(np.zeros(rows, np.int64), tuple(array[:rows] for array in arrays))
    for rows in (2, 9, 3, 2, 8, 9):
        for array in arrays:
            array[:] = chance.normal(size=array.shape)
        before = tuple(array[:rows] for array in arrays)
        tokens = chance.integers(0, 27, rows)
        wanted = session.step(tokens, before)
        logits, after = session.advance(tokens, before)
        assert logits.tobytes() == wanted[0].tobytes()
        assert all((a == b).all() for a, b in zip(after, wanted[1], strict=True))
        written.add(after[0].ctypes.data)
    assert len(written) == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "cannot load"),
        (b"no graph", "cannot load"),
        (model_bytes()[:200], "cannot load"),
        (graph().SerializeToString(), "no metadata property makemore.manifest"),
        (model_bytes("[]"), "manifest"),
        (model_bytes(manifest(states=(renamed(input="other"),))), "inputs are"),
        (model_bytes(manifest(states=(renamed(output="other"),))), "outputs are"),
        (model_bytes(manifest(states=(renamed(dtype="float32"),))), "input 'count_in' is"),
        (model_bytes(manifest(states=())), "inputs are"),
        (model_bytes(manifest(alphabet=("a", "b", "c"))), "output 'logits' is"),
        (model_bytes(model=graph(logits="scores")), "outputs are"),
    ],
)
def test_a_graph_that_breaks_the_contract_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(BadModel, match=reason):
        OrtSession(content)


def test_the_runtime_writes_no_file_and_its_telemetry_is_off(tmp_path: Path) -> None:
    """onnxruntime since 1.29 keeps a device id and a database in the home folder, unless CI is set."""
    kept = {"PATH", "LD_LIBRARY_PATH", "SYSTEMROOT"}
    environment = {key: value for key, value in os.environ.items() if key in kept}
    program = (
        "import serving.engine.session, onnxruntime; assert onnxruntime.get_available_providers()"
    )
    for switched_on in (False, True):  # on: the detector sees what it is there to see
        home = tmp_path / str(switched_on)
        home.mkdir()
        extra = {"ORT_DISABLE_TELEMETRY": "0"} if switched_on else {}
        subprocess.run(
            [sys.executable, "-B", "-c", program],
            env={**environment, **extra, "HOME": str(home)},
            cwd=home,
            check=True,
            timeout=60,
        )
        assert bool(list(home.rglob("*"))) == switched_on
