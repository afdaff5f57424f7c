"""A server whose engines are in a process of their own is, to its callers, as any other."""

import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from makemore.v1 import generation_service_pb2 as pb
from makemore.v1.generation_service_pb2_grpc import GenerationServiceStub
from serving.apart import engines as apart
from serving.apart.engines import RemoteEngines
from serving.apart.remote import RemoteEngine
from serving.client import Client
from serving.config import PROCESS, ServerConfig
from serving.engine import ledger
from serving.engine.stepping import initial_states
from serving.errors import NoDevice, ServingError, Unavailable
from serving.repository import load_version
from serving.server import Server
from serving.testing import running
from tests.serving.graphs import graph, manifest, model_bytes, publish
from tests.serving.process import halt, wait_until

STRANGE: dict[str, Any] = {
    "unique": True,
    "novelty": "NOVELTY_NOT_IN_TRAINING",
    "min_length": 3,
    "exclude": ["emma"],
}


def config(repository: Path, **settings: Any) -> ServerConfig:
    return ServerConfig(repository, "127.0.0.1:0", engines=PROCESS, **settings)


@pytest.fixture
def server(repository: Path) -> Iterator[Server]:
    with running(config(repository, default_model="lstm")) as server:
        yield server


def remote(server: Server, name: str = "") -> RemoteEngine:
    engine = server.host.find(name)[1]
    assert isinstance(engine, RemoteEngine)
    return engine


@contextmanager
def streaming(server: Server) -> Iterator[Any]:
    """A long stream, of which the header and the first samples have come."""
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        request = pb.StreamGenerateRequest(request=pb.GenerateRequest(n=100_000))
        stream = GenerationServiceStub(channel).StreamGenerate(request)
        next(stream)
        next(stream)
        yield stream


def asked(client: Client, model: str) -> list[Any]:
    """All that a model can be asked for."""
    generated = client.generate("a", 20, model=model, seed=3)
    strange = client.generate(n=20, model=model, seed=3, pattern="[a-m]+", **STRANGE)
    drawn = client.generate(n=20, model=model, seed=3, suffix="a", exact=True)
    streamed = [
        (sample.text, sample.log_prob)
        for message in client.stream(n=5000, model=model, seed=4)
        for sample in message.samples
    ]
    for response in (generated, strange, drawn):
        response.ClearField("usage")
    return [
        *(generated, strange, drawn, streamed),
        *client.score(["emma", "", "xq1"], model=model, characters=True),
        *client.next_characters(["", "em"], model=model),
        client.list_top_strings("e", n=5, model=model, pattern="[a-m]+").strings,
    ]


@pytest.mark.parametrize("model", ["lstm", "transformer", "bow"])
def test_all_answers_are_those_of_engines_in_threads(repository: Path, model: str) -> None:
    answers = []
    for settings in (config(repository), ServerConfig(repository, "127.0.0.1:0")):
        with running(settings) as server, Client(f"127.0.0.1:{server.port}") as client:
            answers.append(asked(client, model))
    assert answers[0] == answers[1]


def test_a_session_steps_as_one_of_this_process(server: Server, repository: Path) -> None:
    there = server.host.find("lstm")[0].session
    here = load_version(repository / "lstm" / "1").session
    assert (there.manifest, there.arithmetic) == (here.manifest, here.arithmetic)
    states, tokens = initial_states(here.manifest.states, 3), np.array([0, 1, 2])
    found, wanted = there.step(tokens, states), here.step(tokens, states)
    assert np.array_equal(found[0], wanted[0])
    assert all(map(np.array_equal, found[1], wanted[1]))


def test_a_cancelled_call_frees_its_rows(server: Server) -> None:
    engine = remote(server)
    with streaming(server) as stream:
        wait_until(lambda: engine.admission.queues[1].jobs == 1)
        stream.cancel()
        wait_until(lambda: engine.admission.queues[1].jobs == 0)
    wait_until(lambda: engine.figures().counts[ledger.JOBS, "draw", "cancelled"] == 1)
    assert sum(engine.figures().rows) == 0
    assert engine.admission.queues[1].work == 0


def test_its_figures_arrive_and_balance(server: Server) -> None:
    engine = remote(server)
    with Client(f"127.0.0.1:{server.port}") as client:
        client.generate(n=10)
        client.score(["emma"])
    wait_until(lambda: engine.figures().counts[ledger.JOBS, "read", "finished"] == 1)
    found = engine.figures()
    assert found.counts[ledger.JOBS, "draw", "finished"] == 1
    assert found.counts[ledger.SAMPLES_ACCEPTED,] == 10
    assert found.stepped > 0
    assert found.tree is not None
    assert not engine.is_busy
    assert [queue.jobs for queue in engine.admission.queues] == [0, 0]


def test_its_memory_and_processor_time_are_told(server: Server) -> None:
    told = server.observation.metrics.registry.get_sample_value
    assert (told("engines_process_resident_memory_bytes") or 0) > 10e6
    assert (told("engines_process_cpu_seconds_total") or 0) > 0


def test_engines_in_threads_have_no_process_to_tell_of(repository: Path) -> None:
    with running(ServerConfig(repository, "127.0.0.1:0", "lstm")) as server:
        told = server.observation.metrics.registry.get_sample_value
        assert told("engines_process_resident_memory_bytes") is None
        assert (told("process_resident_memory_bytes") or 0) > 10e6


def test_an_engine_that_cannot_start_leaves_nothing_open(tmp_path: Path) -> None:
    """A model whose first step fails, and which nobody has tried out before."""
    publish(tmp_path, model_bytes())
    with running(config(tmp_path)) as server:
        engines = server.host.engines
        session = engines.open(model_bytes(manifest(), graph(np.full((3, 3), np.inf))))
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(ServingError, match="usable logits"):
            engines.start(session, "bad@1")
        assert len(os.listdir("/proc/self/fd")) == before
        assert server.watchdog.look() == ""


def test_versions_come_and_go_while_it_serves(tmp_path: Path) -> None:
    publish(tmp_path, model_bytes())
    with running(config(tmp_path, reload_interval=0.0)) as server:
        first = server.host.take("good")[1]
        publish(tmp_path, model_bytes(manifest(max_length=5)), version=2)
        publish(tmp_path, model_bytes(manifest(), graph(np.full((3, 3), np.inf))), version=3)
        shutil.rmtree(tmp_path / "good" / "1")
        server.host.reload()
        assert [model.version for model in server.host.models()] == [2]
        assert "no numbers" in server.host.repository.refusals[0].reason
        assert first.is_alive
        server.host.give_back(first)
        wait_until(lambda: not first.is_alive)
        assert (server.watchdog.look(), first.failure) == ("", "")


def test_it_leaves_no_process_behind(repository: Path) -> None:
    with running(config(repository, default_model="lstm")) as server:
        pid = server.host.engines.pid
        assert os.getsid(pid) == pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_are_the_servers_to_heed(server: Server, number: int) -> None:
    os.kill(server.host.engines.pid, number)
    with Client(f"127.0.0.1:{server.port}") as client:
        assert len(client.generate(n=3).samples) == 3


WAYS: dict[str, Callable[[GenerationServiceStub], Any]] = {
    "unary": lambda stub: stub.Generate(pb.GenerateRequest(n=1000)),
    "stream": lambda stub: list(
        stub.StreamGenerate(pb.StreamGenerateRequest(request=pb.GenerateRequest(n=1000)))
    ),
    "score": lambda stub: stub.Score(pb.ScoreRequest(texts=["emma"])),
    "next": lambda stub: stub.NextCharacters(pb.NextCharactersRequest(prefixes=["e"])),
    "search": lambda stub: stub.ListTopStrings(pb.ListTopStringsRequest(n=5)),
    "pattern": lambda stub: stub.Generate(
        pb.GenerateRequest(n=1000, constraints=pb.Constraints(pattern="[a-m]+"))
    ),
}


def code_of(way: str, stub: GenerationServiceStub) -> grpc.StatusCode:
    """How such a call ends."""
    try:
        WAYS[way](stub)
    except grpc.RpcError as error:
        call: Any = error
        code: grpc.StatusCode = call.code()
        return code
    return grpc.StatusCode.OK


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGKILL, grpc.StatusCode.UNAVAILABLE),
        (signal.SIGXCPU, grpc.StatusCode.UNAVAILABLE),
        (signal.SIGSEGV, grpc.StatusCode.INTERNAL),
        (signal.SIGABRT, grpc.StatusCode.INTERNAL),
    ],
)
def test_when_it_ends_calls_are_to_be_sent_again_unless_one_may_have_crashed_it(
    server: Server, number: int, code: grpc.StatusCode
) -> None:
    """Whatever they ask for; those that come later have crashed nothing."""
    engine, pid = remote(server), server.host.engines.pid
    with (
        grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel,
        ThreadPoolExecutor(len(WAYS)) as pool,
    ):
        ask = partial(code_of, stub=GenerationServiceStub(channel))
        halt(pid)  # so that no call ends before
        under_way = pool.map(ask, WAYS)
        wait_until(lambda: len(engine._jobs) == len(WAYS))
        os.kill(pid, number)
        os.kill(pid, signal.SIGCONT)
        codes = dict(zip(WAYS, under_way, strict=True))
        later = dict(zip(WAYS, pool.map(ask, WAYS), strict=True))
    assert codes == dict.fromkeys(WAYS, code)
    assert later == dict.fromkeys(WAYS, grpc.StatusCode.UNAVAILABLE)
    assert not engine.is_alive
    assert engine.failure == "the engine of lstm@1 has ended"
    assert re.fullmatch(r"the engine of \S+@1 has ended", server.watchdog.look())


def test_a_process_that_does_not_answer_its_server_is_killed(repository: Path) -> None:
    with running(config(repository, default_model="lstm", watchdog=1.0)) as server:
        engines, engine = server.host.engines, remote(server)
        assert isinstance(engines, RemoteEngines)
        wait_until(lambda: engines._signs > 0)
        halt(engines.pid)
        with pytest.raises(Unavailable, match="has ended"):
            engines.ask("require", "cpu")
        wait_until(lambda: not engine.is_alive)


def test_it_gives_signs_of_life_though_nothing_changes(server: Server) -> None:
    engines = server.host.engines
    assert isinstance(engines, RemoteEngines)
    before = engines._signs
    wait_until(lambda: engines._signs > before + 3)


def test_it_is_given_the_variables_that_it_needs_alone(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MAKEMORE_SERVE_TOKEN", "AWS_SECRET_ACCESS_KEY", "OMP_NUM_THREADS", "LC_ALL"):
        monkeypatch.setenv(name, "1")
    with running(config(repository, default_model="lstm")) as server:
        given = Path(f"/proc/{server.host.engines.pid}/environ").read_text()
    names = {line.partition("=")[0] for line in given.split("\0")}
    assert names >= {"OMP_NUM_THREADS", "LC_ALL", "PATH", "PYTHONPATH"}
    assert not [name for name in names if name.startswith(("MAKEMORE_", "AWS_"))]


def test_one_that_does_not_read_is_busy(server: Server) -> None:
    """So that the watchdog sees that it hangs."""
    engine = remote(server)
    wait_until(lambda: not engine.is_busy)
    halt(server.host.engines.pid)
    try:
        with Client(f"127.0.0.1:{server.port}", timeout=0.5) as client, pytest.raises(ServingError):
            client.generate()
        assert engine.is_busy
    finally:
        os.kill(server.host.engines.pid, signal.SIGCONT)
    wait_until(lambda: not engine.is_busy)


def test_a_device_that_is_not_there_is_told(repository: Path) -> None:
    with pytest.raises(NoDevice), running(config(repository, device="cuda")):
        pass


KILLED = """
import os, sys
from pathlib import Path
from serving.apart import main
opened = main.open_session

def open_session(model, placement):
    if b"it kills" in model and len(deaths := os.listdir(FOLDER)) < TIMES:
        Path(FOLDER, str(len(deaths))).touch()
        os.kill(os.getpid(), 11)
    return opened(model, placement)

main.open_session = open_session
main.main()
"""


@pytest.mark.parametrize("times", [1, 1000])
def test_a_version_that_ends_the_process_at_the_start_is_left_out_and_the_others_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """If it does so again; once, the process may have been ended by something else."""
    repository, deaths = tmp_path / "repository", tmp_path / "deaths"
    deaths.mkdir()
    publish(repository, model_bytes())
    for version in (2, 4):
        about = manifest(architecture="it kills", max_length=3 + version)
        publish(repository, model_bytes(about), version=version)
    publish(repository, model_bytes(manifest(max_length=6)), version=3)
    program = KILLED.replace("FOLDER", repr(str(deaths))).replace("TIMES", str(times))
    monkeypatch.setattr(apart, "PROGRAM", ("-P", "-c", program))
    with running(config(repository)) as server, Client(f"127.0.0.1:{server.port}") as client:
        served = [1, 2, 3, 4] if times == 1 else [1, 3]
        assert [model.version for model in client.list_models()] == served
        assert all(client.generate(model=f"good@{version}").samples for version in served)
        assert {r.path.name: r.reason for r in server.host.repository.refusals} == {
            str(version): "loading it ended the process by signal 11"
            for version in {1, 2, 3, 4} - set(served)
        }
        assert len(server.host.running()) == len(served)
        assert server.watchdog.look() == ""
        server.host.reload()
        assert [model.version for model in server.host.models()] == served
    assert len(list(deaths.iterdir())) == min(times, 4)


def test_a_version_is_refused_whatever_the_answer_about_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a manifest did that was too deep to be pickled; here its description is."""
    deep = """
from serving.apart import main
opened = main.House.open

def open_(house, number, placement, model):
    found = opened(house, number, placement, model)
    if b"too deep" in model:
        for _ in range(100_000):
            found = [found]
    return found

main.House.open = open_
main.main()
"""
    publish(tmp_path, model_bytes())
    publish(tmp_path, model_bytes(manifest(architecture="too deep")), version=2)
    monkeypatch.setattr(apart, "PROGRAM", ("-P", "-c", deep))
    with running(config(tmp_path)) as server:
        assert [model.version for model in server.host.models()] == [1]
        assert "RecursionError" in server.host.repository.refusals[0].reason
