"""Serving on a GPU; skipped where onnxruntime has none."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from serving.client import Client
from serving.config import ServerConfig
from serving.engine.device_session import DeviceSession
from serving.engine.engine import Engine
from serving.engine.job import Draw, Outcome
from serving.engine.runtime import onnxruntime
from serving.engine.sampling import SamplingParameters
from serving.engine.session import OrtSession
from serving.engine.stepping import StepSession, initial_states
from serving.errors import BadModel
from serving.placement import CUDA, Placement
from serving.testing import running
from trainer.export.export import export
from trainer.models import MODELS
from trainer.models.base import STANDARD
from trainer.run import Run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        "CUDAExecutionProvider" not in onnxruntime.get_available_providers(),
        reason="onnxruntime is built without CUDA",
    ),
]
ROWS = 64


@pytest.fixture(scope="module")
def standard(tmp_path_factory: pytest.TempPathFactory, runs: dict[str, Run]) -> Path:
    """A repository of every architecture, made of operators that a GPU has kernels for."""
    folder = tmp_path_factory.mktemp("standard")
    for name, run in runs.items():
        export(run, name, folder, STANDARD)
    return folder


def content(repository: Path, name: str) -> bytes:
    return (repository / name / "1" / "model.onnx").read_bytes()


def on_gpu(repository: Path, name: str) -> DeviceSession:
    return DeviceSession(content(repository, name), Placement(CUDA, rows=ROWS))


def strings(session: StepSession, count: int, prefix: str = "") -> list[str]:
    engine = Engine(session, ROWS, 0)
    engine.start()
    ids = session.manifest.vocabulary.encode(prefix)
    job = Draw(ids, count, SamplingParameters(seed=1), session.manifest.max_length)
    engine.submit(job)
    outcome: Outcome = job.result.result(60)
    engine.stop()
    return [sample.text for sample in outcome.samples]


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_those_of_the_cpu_but_for_their_last_bits(standard: Path, name: str) -> None:
    host, device = OrtSession(content(standard, name)), on_gpu(standard, name)
    tokens = np.random.default_rng(1).integers(1, len(host.manifest.vocabulary), (8, ROWS))
    states = others = initial_states(host.manifest.states, ROWS)
    for token in tokens:
        logits, states = host.step(token, states)
        other_logits, others = device.step(token, others)
        np.testing.assert_allclose(other_logits, logits, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_strings_are_those_of_the_cpu_but_for_rare_ones(standard: Path, name: str) -> None:
    """One of 1,000 is a hundred times as many as docs/sampling.md says of other arithmetics."""
    ours, theirs = (
        strings(on_gpu(standard, name), 1000),
        strings(OrtSession(content(standard, name)), 1000),
    )
    assert sum(a != b for a, b in zip(ours, theirs, strict=True)) <= 1


@pytest.mark.parametrize("name", MODELS)
def test_strings_are_the_same_alone_amid_others_and_again(standard: Path, name: str) -> None:
    many = strings(on_gpu(standard, name), 1000, "a")
    assert strings(on_gpu(standard, name), 1000, "a") == many
    assert strings(on_gpu(standard, name), 1, "a") == many[:1]
    assert strings(on_gpu(standard, name), 70, "a") == many[:70]


def test_models_are_loaded_and_begin_while_others_are_stepped(standard: Path) -> None:
    """A run is recorded when an engine begins; what other threads ask of the GPU then must not fail."""

    def rounds(name: str) -> set[str]:
        return {"".join(strings(on_gpu(standard, name), 500)) for _ in range(8)}

    names = ["gru", "lstm", "rnn", "transformer"]
    with ThreadPoolExecutor(len(names)) as pool:
        found = list(pool.map(rounds, names))
    assert [len(made) for made in found] == [1] * len(names)


def test_attention_that_only_a_cpu_has_is_refused(repository: Path) -> None:
    with pytest.raises(BadModel, match="no kernel for GroupQueryAttention"):
        on_gpu(repository, "transformer")


def test_a_server_tells_that_it_computes_on_the_gpu(standard: Path) -> None:
    config = ServerConfig(standard, "127.0.0.1:0", "lstm", device=CUDA)
    with running(config) as server, Client(f"127.0.0.1:{server.port}") as client:
        assert client.get_model().arithmetic.startswith("cuda ")
        assert client.generate(n=5, seed=1).samples == client.generate(n=5, seed=1).samples
