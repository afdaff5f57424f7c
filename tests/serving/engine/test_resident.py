"""States that stay on a device give what those of the host give; here the device is the CPU.

What runs is what runs on a GPU: the same graphs, bound to OrtValues in the same way.
"""

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from serving.constraints.automaton import Rules
from serving.constraints.masks import Bounds
from serving.engine import devices
from serving.engine.contexts import Context, Private, after_boundary
from serving.engine.device_session import DeviceSession, Slab
from serving.engine.engine import Engine
from serving.engine.job import Draw, Read, Selection
from serving.engine.moves import Mover
from serving.engine.resident import ROOT, Resident
from serving.engine.sampling import Int64, SamplingParameters
from serving.engine.session import OrtSession
from serving.errors import BadModel, ServingError
from serving.placement import CPU, CUDA, Placement
from trainer.models import MODELS

ROWS = 7


def graph(repository: Path, name: str) -> bytes:
    return (repository / name / "1" / "model.onnx").read_bytes()


def on_device(content: bytes, rows: int = ROWS) -> DeviceSession:
    return DeviceSession(content, Placement(CPU, rows=rows))


@pytest.fixture(params=MODELS)
def sessions(request: pytest.FixtureRequest, repository: Path) -> tuple[OrtSession, DeviceSession]:
    content = graph(repository, request.param)
    return OrtSession(content), on_device(content)


@pytest.fixture
def lstm(repository: Path) -> DeviceSession:
    return on_device(graph(repository, "lstm"))


class Walk:
    """The same rows in two kinds of contexts, going the same ways."""

    def __init__(self, host: OrtSession, device: DeviceSession) -> None:
        root = after_boundary(host)
        self.sides: list[Private | Resident] = [Private(host, root), Resident(device, root)]
        self.longest = host.manifest.max_length
        self.size = len(host.manifest.vocabulary)
        self.kept: list[tuple[list[Context], int]] = [([root, root], 0)]
        self.rows: list[tuple[tuple[int, ...], int]] = []  # places on either side, length

    def fork(self, which: int, count: int) -> None:
        kept, length = self.kept[which]
        places = [s.fork(k, count) for s, k in zip(self.sides, kept, strict=True)]
        self.rows += [((a, b), length) for a, b in zip(*(p.tolist() for p in places), strict=True)]

    def places(self, rows: list[int], side: int) -> Int64:
        return np.array([self.rows[row][0][side] for row in rows], np.int64)

    def advance(self, rows: list[int], tokens: list[int]) -> None:
        for side, contexts in enumerate(self.sides):
            places, moved = contexts.advance(self.places(rows, side), np.array(tokens))
            assert moved.all()
            for row, place in zip(rows, places.tolist(), strict=True):
                at, length = self.rows[row]
                self.rows[row] = ((place, at[1]) if side == 0 else (at[0], place)), length
        for row in rows:
            self.rows[row] = self.rows[row][0], self.rows[row][1] + 1

    def renew(self, rows: list[int], which: int) -> None:
        """Rows leave, others take their places and see their first tokens."""
        kept, length = self.kept[which]
        for side, contexts in enumerate(self.sides):
            contexts.renew(self.places(rows, side), kept[side])
        for row in rows:
            self.rows[row] = self.rows[row][0], length
        self.advance(rows, [1 + row % (self.size - 1) for row in rows])

    def keep(self, row: int) -> None:
        places, length = self.rows[row]
        kept = [side.keep(place) for side, place in zip(self.sides, places, strict=True)]
        self.kept.append((kept, length))

    def release(self, rows: list[int]) -> None:
        for side, contexts in enumerate(self.sides):
            contexts.release(self.places(rows, side))
        self.rows = [row for i, row in enumerate(self.rows) if i not in rows]

    def check(self) -> None:
        every = list(range(len(self.rows)))
        if every:
            host, device = (s.logits(self.places(every, i)) for i, s in enumerate(self.sides))
            assert device.tobytes() == host.tobytes()
        for kept, _ in self.kept:
            host, device = (k.logits for k in kept)
            assert device.tobytes() == host.tobytes()


@pytest.mark.parametrize("seed", range(2))
def test_rows_go_any_way_and_have_the_same_bits(
    sessions: tuple[OrtSession, DeviceSession], seed: int
) -> None:
    """Forked, kept, some advanced and some not, released: as many as three slabs hold."""
    walk, chance = Walk(*sessions), random.Random(seed)
    for _ in range(80):
        if len(walk.rows) < 3 * ROWS:
            walk.fork(chance.randrange(len(walk.kept)), chance.randint(1, 4))
        going = [i for i, (_, length) in enumerate(walk.rows) if length < walk.longest]
        some = chance.choice([going, going, [i for i in going if chance.random() < 0.5]])
        if some:
            walk.advance(some, [chance.randrange(1, walk.size) for _ in some])
        if walk.rows and len(walk.kept) < 12 and chance.random() < 0.3:
            walk.keep(chance.randrange(len(walk.rows)))
        long = {i for i, (_, length) in enumerate(walk.rows) if length == walk.longest}
        walk.release(sorted(long | {i for i in range(len(walk.rows)) if chance.random() < 0.1}))
        begins = [i for i, (_, length) in enumerate(walk.kept) if length < walk.longest]
        if others := [i for i in range(len(walk.rows)) if chance.random() < 0.1]:
            walk.renew(others, chance.choice(begins))
        walk.check()
    walk.release(list(range(len(walk.rows))))
    device = walk.sides[1]
    assert isinstance(device, Resident)
    assert (list(device._origins), device._awaited.total()) == ([ROOT], 0)


@pytest.mark.parametrize("is_released", [True, False], ids=["released", "taken elsewhere"])
def test_rows_that_nobody_has_do_not_run_past_the_longest_string(
    repository: Path, is_released: bool
) -> None:
    """A Transformer's step fails at a position that it has no embedding for."""
    content = graph(repository, "transformer")
    walk = Walk(OrtSession(content), on_device(content))
    walk.fork(0, 1)
    for _ in range(walk.longest - 3):
        walk.advance([0], [1])
    walk.fork(0, 1)
    walk.advance([0, 1], [2, 3])
    if is_released:
        walk.release([0])
    else:
        walk.advance([0], [1])  # where the two were, its state stays behind
    for _ in range(walk.longest - 1):
        walk.advance([len(walk.rows) - 1], [2])
        walk.check()


def test_stepping_copies_no_state_to_the_host_or_from_it(
    lstm: DeviceSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    resident = Resident(lstm, after_boundary(lstm))
    monkeypatch.setattr(Mover, "read", None)
    monkeypatch.setattr(Mover, "fill", None)
    places = resident.fork(resident.root, 5)
    for step in range(6):
        places, _ = resident.advance(places, np.full(len(places), 1 + step))
        if step % 2:
            resident.release(places[:1])
            places = np.append(places[1:], resident.fork(resident.root, 1))


def test_slabs_are_used_again(lstm: DeviceSession, monkeypatch: pytest.MonkeyPatch) -> None:
    resident = Resident(lstm, after_boundary(lstm))
    made: list[Slab] = []
    slab = lstm.slab

    def counted() -> Slab:
        made.append(slab())
        return made[-1]

    monkeypatch.setattr(lstm, "slab", counted)
    for _ in range(40):
        light, heavy = (resident.fork(resident.root, ROWS) for _ in range(2))
        for places in (light, heavy, light, heavy):
            resident.advance(places, np.ones(ROWS, np.int64))
        resident.release(light)
        resident.release(heavy)
    assert len(made) <= 3


def test_a_step_is_that_of_the_host_whatever_the_number_of_rows(
    sessions: tuple[OrtSession, DeviceSession],
) -> None:
    host, device = sessions
    chance = np.random.default_rng(1)
    for rows in (1, 2, ROWS, ROWS + 1, 3 * ROWS):
        states = after_boundary(host).states
        before = tuple(np.repeat(state[None], rows, axis=0) for state in states)
        token = chance.integers(0, len(host.manifest.vocabulary), rows)
        logits, after = host.step(token, before)
        other_logits, other_after = device.step(token, before)
        assert other_logits.tobytes() == logits.tobytes()
        for ours, theirs in zip(other_after, after, strict=True):
            assert np.array_equal(ours, theirs)


@pytest.fixture
def engines(sessions: tuple[OrtSession, DeviceSession]) -> Iterator[list[Engine]]:
    """The host's, without a tree, and the device's."""
    made = [Engine(session, ROWS, 0) for session in sessions]
    for engine in made:
        engine.start()
    yield made
    for engine in made:
        engine.stop()


def some_jobs(engine: Engine) -> list[Draw | Read]:
    """Plain, with a prefix, alone, constrained, without replacement; and scores."""
    vocabulary, longest = engine.manifest.vocabulary, engine.manifest.max_length
    bounds = Bounds(Rules(suffix="a").compile(vocabulary.alphabet), 0, longest)
    plain = [SamplingParameters(seed=seed, temperature=1 + seed / 10) for seed in range(6)]
    return [
        *(Draw(vocabulary.encode(text), 9, plain[0], longest) for text in ("", "a", "ma", "an")),
        *(Draw(vocabulary.encode("mar"), 1, each, longest) for each in plain),
        Draw([], 12, plain[1], longest, bounds),
        Draw([], 40, plain[2], 2, None, Selection(is_unique=True)),
        Read([vocabulary.encode(text) for text in ("anna", "", "maria", "a", "emma")]),
    ]


def test_an_engine_makes_the_same_strings_on_a_device(engines: list[Engine]) -> None:
    found = []
    for engine in engines:
        jobs = some_jobs(engine)
        for job in jobs:
            engine.submit(job)
        found.append([job.result.result(60) for job in jobs])
    host, device = found
    for ours, theirs in zip(device[:-1], host[:-1], strict=True):
        assert ours.samples == theirs.samples
    for ours, theirs in zip(device[-1], host[-1], strict=True):
        assert ours.log_probs.tobytes() == theirs.log_probs.tobytes()


def test_a_session_that_has_failed_is_good_for_another_engine(
    lstm: DeviceSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        engine, job = Engine(lstm, ROWS, 0), Draw([], 9, SamplingParameters(seed=1), 5)
        engine.start()
        broken.setattr(lstm, "take", None)
        engine.submit(job)
        with pytest.raises(ServingError, match="the model failed"):
            job.result.result(30)
    engine, job = Engine(lstm, ROWS, 0), Draw([], 9, SamplingParameters(seed=1), 5)
    engine.start()
    engine.submit(job)
    assert len(job.result.result(30).samples) == 9
    engine.stop()


def test_a_graph_that_the_device_has_no_kernel_for_is_refused(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = ["GroupQueryAttention"]
    monkeypatch.setattr(devices, "left_on_the_host", lambda session, device: left)
    with pytest.raises(BadModel, match=r"no kernel for GroupQuery.*--operators standard"):
        on_device(graph(repository, "transformer"))


def test_where_each_operator_runs_is_told_by_the_runtime(repository: Path) -> None:
    session = devices.open_graph(graph(repository, "lstm"), CPU, devices.device_options())
    assert devices.left_on_the_host(session, CPU) == []
    assert {"Gemm", "Sigmoid", "Tanh"} <= set(devices.left_on_the_host(session, CUDA))
