"""A server whose states are on a device answers as one on the CPU does, byte for byte; here the device is
the CPU too, so that the arithmetic is the same and all else is what runs on a GPU."""

from pathlib import Path

import pytest

from serving.client import Client
from serving.config import ServerConfig
from serving.engine import engines
from serving.engine.device_session import DeviceSession
from serving.placement import CPU, Placement
from serving.testing import running
from tests.e2e.test_seed_contract import digest, streamed

TEXTS = ["anna", "", "mia", "a", "emma"]


def answers(config: ServerConfig) -> list[object]:
    """What a model makes of calls of every kind."""
    model = config.default_model
    with running(config) as server, Client(f"127.0.0.1:{server.port}", timeout=100) as client:
        constrained = client.generate("a", 50, seed=2, unique=True, pattern="[a-m]*", suffix="a")
        top = client.list_top_strings("a", 5).strings
        return [
            digest(streamed(client, model)),
            digest(constrained.samples),
            [client.generate("ma", 1, seed=seed).samples[0].text for seed in range(10)],
            [score.log_prob for score in client.score(TEXTS)],
            [d.SerializeToString() for d in client.next_characters(TEXTS)],
            [(string.text, string.log_prob) for string in top],
        ]


@pytest.mark.parametrize("model", ["lstm", "cnn", "transformer"])
def test_a_server_answers_from_a_device_as_from_the_cpu(
    repository: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    config = ServerConfig(repository, "127.0.0.1:0", model, prefix_cache=0)
    on_cpu = answers(config)
    opened: list[DeviceSession] = []

    def open_session(content: bytes, placement: Placement) -> DeviceSession:
        opened.append(DeviceSession(content, Placement(CPU, rows=placement.rows)))
        return opened[-1]

    monkeypatch.setattr(engines, "open_session", open_session)
    assert answers(config) == on_cpu
    assert opened
