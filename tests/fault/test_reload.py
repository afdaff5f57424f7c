"""Versions that are swapped under load: no call fails, and no answer is of two models."""

import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from makemore.v1 import generation_service_pb2 as pb
from makemore.v1.generation_service_pb2_grpc import GenerationServiceStub
from serving.client import Client
from serving.engine.reference import generate
from serving.engine.sampling import SamplingParameters
from serving.engine.session import OrtSession
from tests.fault.figures import record
from tests.fault.load import WRONG, Load
from tests.serving.graphs import graph, manifest, model_bytes
from tests.serving.process import SERVE, planted, serving, wait_until
from trainer.export.publish import publish

LENGTH = 24
SEEDS = 8
BAD = 7
"""Every so many versions one is bad."""


def content(version: int) -> bytes:
    """A model that makes other strings than those of all other versions."""
    table = np.random.default_rng(version).normal(size=(3, 3)) - [2, 0, 0]
    return model_bytes(manifest(max_length=LENGTH), graph(table))


@cache
def expected(version: int, seed: int, n: int) -> list[str]:
    """What the plain sampler draws with a version."""
    session = OrtSession(content(version))
    samples = generate(session, [], n, SamplingParameters(seed=seed), LENGTH)
    return [sample.text for sample in samples]


class Answers:
    """Asks in every way in which an answer could be of two models, and holds what comes against each."""

    def __init__(self, top: int = 20) -> None:
        self.versions: Counter[int] = Counter()
        self.top = top  # strings of a search, which asks its engine again and again

    def ask(self, stub: GenerationServiceStub, number: int) -> None:
        """Raise AssertionError when the strings are not those of the version that the answer names."""
        seed = number % SEEDS
        asked = pb.GenerateRequest(n=3, sampling=pb.Sampling(seed=seed))
        match number % 20:
            case 0:
                asked.n = 60
                header, *rest = stub.StreamGenerate(
                    pb.StreamGenerateRequest(request=asked), timeout=30
                )
                self._check(header.header, [s for message in rest for s in message.samples], seed)
            case 1:
                self._check_top(
                    stub.ListTopStrings(pb.ListTopStringsRequest(n=self.top), timeout=30)
                )
            case _:
                response = stub.Generate(asked, timeout=30)
                self._check(response, response.samples, seed)

    def _check(self, answer: Any, samples: Any, seed: int) -> None:
        version = int(answer.model.partition("@")[2])
        self.versions[version] += 1
        assert [sample.text for sample in samples] == expected(version, seed, len(samples))

    def _check_top(self, answer: Any) -> None:
        """A string's probability is that which the version gives to it."""
        version = int(answer.model.partition("@")[2])
        for string in answer.strings:
            assert abs(string.log_prob - log_prob(version, string.text)) < 1e-4


@cache
def log_prob(version: int, text: str) -> float:
    """Of a string and its end, by the version's table."""
    table = np.random.default_rng(version).normal(size=(3, 3)) - [2, 0, 0]
    logs = table - np.log(np.exp(table).sum(axis=1, keepdims=True))
    ids = [0, *(" ab".index(character) for character in text), 0]
    return float(sum(logs[a, b] for a, b in pairwise(ids)))


def put(repository: Path, version: int) -> None:
    """Publish a version and take the one before the last away."""
    what = b"bad" if version % BAD == 0 else content(version)
    publish(repository / "good" / str(version), {"model.onnx": what})
    shutil.rmtree(repository / "good" / str(version - 2), ignore_errors=True)


def swap(repository: Path, client: Client, versions: range) -> int:
    """Publish version after version, each once the one before is served; how many bad ones there were."""
    bad = 0
    for version in versions:
        put(repository, version)
        if version % BAD == 0:
            bad += 1
            continue
        wait_until(partial(is_served, client, version))
    return bad


def warm_rate(load: Load) -> float:
    """The rate once what is expected of version 1 is known."""
    load.wait_for(20 * SEEDS)
    return load.rate()


def is_served(client: Client, version: int) -> bool:
    return version_of(client) == version


def version_of(client: Client) -> int:
    return client.get_model("good").version


def run(repository: Path, versions: range, begin: Callable[[Load], Any], bug: str = "") -> Any:
    """Reload under load; the load, what it found, and what `begin` made of it."""
    answers = Answers(300 if bug else 20)
    put(repository, versions[0])
    command = planted(bug, "serve") if bug else SERVE
    with (
        serving(repository, "--reload-interval", "0.1", command=command) as (process, address),
        Client(address) as client,
        Load(address, answers.ask) as load,
    ):
        before = begin(load)
        bad = swap(repository, client, versions[1:])
        load.wait_for(20)
        assert process.poll() is None
    return load, answers, before, bad


def test_no_call_fails_and_no_answer_is_of_two_models(tmp_path: Path) -> None:
    load, answers, _, bad = run(tmp_path, range(5, 9), lambda load: load.wait_for(20))
    assert load.failures == {}
    assert len(answers.versions) > 1
    assert bad == 1


@pytest.mark.fault
@pytest.mark.parametrize(
    ("bug", "found"), [("mixed_up", WRONG), ("hasty", "UNAVAILABLE: the model is being")]
)
def test_a_bug_that_was_planted_is_found(tmp_path: Path, bug: str, found: str) -> None:
    load, *_ = run(tmp_path, range(1, 14), lambda load: load.wait_for(20), bug)
    assert any(failure.startswith(found) for failure in load.failures), load.failures


@pytest.mark.parametrize("is_there_at_the_start", [True, False])
def test_a_load_without_an_end_does_not_hold_up_the_servers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_there_at_the_start: bool
) -> None:
    is_loading = tmp_path / "is_loading"
    monkeypatch.setenv("PLANTED", str(is_loading))
    repository = tmp_path / "repository"
    put(repository, 1)
    if is_there_at_the_start:
        put(repository, 2)
    flags = ["--listen", "127.0.0.1:0", "--reload-interval", "0.1"]
    command = [*planted("endless_load", "serve"), "--repository", str(repository), *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            if not is_there_at_the_start:
                assert process.stdout is not None
                assert process.stdout.readline().startswith("serving good@1")
                put(repository, 2)
            wait_until(is_loading.exists)
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            process.kill()


@pytest.mark.fault
@pytest.mark.timeout(600)
def test_50_reloads_under_load(tmp_path: Path) -> None:
    begun = time.monotonic()
    load, answers, rate, bad = run(tmp_path, range(1, 60), warm_rate)
    seconds = time.monotonic() - begun
    assert load.failures == {}
    assert len(answers.versions) > 40
    record(
        "reload",
        calls_a_second_before=round(rate),
        reloads=58 - bad,
        seconds=round(seconds),
        bad_versions_refused=bad,
        versions_that_answered=len(answers.versions),
        calls=load.calls,
        errors=load.failures.total(),
    )
