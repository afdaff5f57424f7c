"""What tests share: small runs, a repository with a model of each architecture, a clean environment."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from serving.client import Client
from serving.config import PROCESS, ServerConfig
from serving.engine.engines import LocalEngines
from serving.host import Host
from serving.repository import Repository
from serving.testing import running
from trainer.data.dataset import SHIPPED, DataConfig
from trainer.export.export import export
from trainer.models import MODELS
from trainer.reporter import PlainReporter
from trainer.run import Run
from trainer.train import new_run, train

RECURRENT = {"hidden": 16, "embedding": 8, "dropout": 0.1}
TRANSFORMER = {"layers": 2, "heads": 2, "embedding": 32, "dropout": 0.1}
SMALL: dict[str, dict[str, Any]] = {
    "bigram": {"alpha": 3.0},  # unlike the baseline's, so that the two have different scores
    "bow": {"hidden": 32, "embedding": 16},
    "mlp": {"hidden": 32, "embedding": 8},
    "cnn": {"hidden": 16, "skip": 16},
    "rnn": RECURRENT,
    "gru": RECURRENT,
    "lstm": RECURRENT,
    "transformer": TRANSFORMER,
    "transformer-modern": TRANSFORMER,
}
QUICK = {"steps": 50, "evaluate_every": 25, "sample_every": 0, "batch_size": 64, "warmup": 10}
ROOT = Path(__file__).parent.parent
COMMITTED = ROOT / "exported_models"


def host_of(repository: Path) -> Host:
    """A host that was not started, of small engines in threads."""
    return Host(Repository(repository), LocalEngines(ServerConfig(repository, max_rows=8)))


# A busy machine is no reason for an example to fail, nor for there to be few of them.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MAKEMORE_")]:
        monkeypatch.delenv(name)
    # A server may run at the default address; no test takes it, and none asks there.
    monkeypatch.setenv("MAKEMORE_SERVE_LISTEN", "127.0.0.1:0")


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PlainReporter, "say", lambda self, text: None)


@pytest.fixture(scope="session")
def names(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the 1,000 most frequent shipped names."""
    path = tmp_path_factory.mktemp("data") / "names.txt"
    lines = SHIPPED.read_text(encoding="utf-8").splitlines()[:1000]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory, names: Path) -> dict[str, Run]:
    """A finished run of every architecture."""
    folder = tmp_path_factory.mktemp("runs")
    made = {}
    for name in MODELS:
        run, dataset = new_run(
            folder / name, name, DataConfig(names), SMALL.get(name, {}), {**QUICK, "threads": 1}
        )
        assert train(run, dataset, resume=False, is_terminal=False)
        made[name] = run
    return made


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory, runs: dict[str, Run]) -> Path:
    """A repository with version 1 of every architecture, called as the architecture is."""
    folder = tmp_path_factory.mktemp("repository")
    for name, run in runs.items():
        export(run, name, folder)
    return folder


@pytest.fixture(scope="session")
def address(repository: Path) -> Iterator[str]:
    """A server of that repository as it is by default; `lstm` is its default model."""
    config = ServerConfig(repository, "127.0.0.1:0", "lstm", engines=PROCESS)
    with running(config) as server:
        yield f"127.0.0.1:{server.port}"


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    with Client(address) as client:
        yield client
