"""A repository full of hostile versions: the good ones are served, and the log tells about the others."""

import logging
import re
from pathlib import Path

import pytest

from serving.client import Client
from serving.config import PROCESS, THREAD, ServerConfig
from serving.observe.logs import line
from serving.testing import running
from tests.serving.graphs import manifest, model_bytes, publish
from tests.serving.hostile import ARCHIVE


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """One good version of `hostile`, and newer ones that are not; another model that is good."""
    publish(tmp_path, model_bytes(manifest("hostile")), "hostile", 1)
    publish(tmp_path, model_bytes(manifest("good")), "good", 1)
    for version, (content, reason) in enumerate(ARCHIVE.values(), 2):
        if reason != "took too long":
            publish(tmp_path, content, "hostile", version)
    publish(tmp_path, b"no model", "lost", 1)
    return tmp_path


@pytest.mark.parametrize("engines", [THREAD, PROCESS])
def test_hostile_versions_are_refused_each_with_its_reason_and_the_others_served(
    archive: Path, caplog: pytest.LogCaptureFixture, engines: str
) -> None:
    config = ServerConfig(archive, "127.0.0.1:0", engines=engines)
    with caplog.at_level(logging.INFO), running(config) as server:
        with Client(f"127.0.0.1:{server.port}") as client:
            assert [m.name for m in client.list_models()] == ["models/good@1", "models/hostile@1"]
            assert client.generate(model="hostile").model == "models/hostile@1"
            assert client.generate(model="good").samples
        refusals = {r.path.name: r.reason for r in server.host.repository.refusals}
    for version, (name, (_, reason)) in enumerate(ARCHIVE.items(), 2):
        if str(version) in refusals:
            assert re.search(reason, refusals[str(version)]), name
    assert len(refusals) == len(ARCHIVE)  # one that takes long is left out, one is of another model
    lines = [line(None, r.levelname, {"event": r.getMessage()}) for r in caplog.records]
    assert f"WARNING: 'hostile' means version 1, not the newer {len(ARCHIVE) + 1}" in lines
    assert "WARNING: no version of 'lost' can be served" in lines
    assert all(line.isprintable() for line in lines)
