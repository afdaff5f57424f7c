import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from serving import repository as repository_module
from serving.engine.job import Read
from serving.errors import NotFound, Unavailable
from serving.host import Host
from serving.repository import Model
from tests.conftest import host_of
from tests.serving.graphs import graph, manifest, model_bytes, publish

INFINITE = np.full((3, 3), np.inf)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """`good` in version 1, served."""
    publish(tmp_path, model_bytes())
    host = host_of(tmp_path)
    host.start()
    yield host
    host.stop()


def publish_another(host: Host, version: int) -> None:
    publish(host.repository.path, model_bytes(manifest(max_length=3 + version)), version=version)


def test_a_call_keeps_its_engine_while_others_get_the_new_one(host: Host) -> None:
    """What a retired engine is asked for before it is given back is still done."""
    model, engine = host.take("good")
    publish_another(host, 2)
    shutil.rmtree(host.repository.path / "good" / "1")
    host.reload()
    new_model, new_engine = host.take("good")
    assert (model.version, new_model.version) == (1, 2)
    assert [engine for _, engine in host.served()] == [new_engine]
    assert engine in host.running()
    job = Read([[1, 2]])
    engine.submit(job)
    assert len(job.result.result(30)) == 1
    host.give_back(engine)
    host.give_back(new_engine)
    with pytest.raises(Unavailable):
        engine.submit(Read([[1]]))
    assert host.running() == [new_engine]


def test_a_retired_engine_is_not_listed_when_it_ends(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, engine = host.find("good")
    listed: list[bool] = []
    monkeypatch.setattr(
        engine, "close", lambda: listed.append(engine in [served for _, served in host.served()])
    )
    publish_another(host, 2)
    shutil.rmtree(host.repository.path / "good" / "1")
    host.reload()
    assert listed == [False]
    type(engine).close(engine)


def test_a_version_whose_first_step_fails_is_refused_and_the_old_one_stays(host: Host) -> None:
    content = model_bytes(manifest(), graph(INFINITE))
    publish(host.repository.path, content, version=2)
    host.reload()
    assert [model.full_name for model in host.models()] == ["models/good@1"]
    assert len(host.running()) == 1
    assert host.reloads == {"accepted": 0, "refused": 1}


def test_what_happens_is_logged_once(
    host: Host, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    publish(host.repository.path, b"bad", version=2)
    publish_another(host, 3)
    host.reload()
    host.reload()
    shutil.rmtree(host.repository.path)
    host.reload()
    host.reload()
    told = [
        record.getMessage().replace(str(host.repository.path), ".") for record in caplog.records
    ]
    digest = host.find("good")[0].digest
    assert [line[:70] for line in told] == [
        "refused ./good/2: the file is no ONNX graph",
        f"serving models/good@3, SHA-256 {digest}"[:70],
        "refused .: cannot be read: . is no folder of models; publish one with makemore"[:70],
    ]
    assert [model.version for model in host.models()] == [1, 3]


def test_a_folder_that_is_skipped_is_told_of_once_and_is_no_refusal(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    (host.repository.path / "good" / "v2").mkdir()
    for _ in range(3):
        host.reload()
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1
    assert "good/v2 is skipped: the folder of a version must be named with a whole" in told[0]
    assert (host.refusals, host.reloads["refused"]) == (0, 0)


def test_a_version_for_whose_engine_there_is_no_memory_is_begun_later(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> object:
        raise MemoryError("too large")

    publish_another(host, 2)
    with monkeypatch.context() as patch:
        patch.setattr(host.engines, "start", fail)
        host.reload()
    assert "MemoryError: too large; it will be tried again" in host.repository.refusals[0].reason
    host.reload()
    assert [model.version for model in host.models()] == [1, 2]


def test_a_path_that_is_too_deep_is_told_at_the_start(tmp_path: Path) -> None:
    publish(tmp_path, model_bytes())
    with pytest.raises(NotFound, match=rf"the models are in {tmp_path}: start with --repository"):
        host_of(tmp_path / "good").start()


def test_a_host_that_gives_up_begins_nothing_more(host: Host) -> None:
    host.give_up()
    publish_another(host, 2)
    host.reload()
    assert len(host.running()) == 1


def test_nothing_is_found_before_the_models_are_loaded(tmp_path: Path) -> None:
    host = host_of(tmp_path)
    with pytest.raises(Unavailable, match="still being loaded"):
        host.find("")
    assert (host.models(), host.served()) == ([], [])
    with pytest.raises(NotFound, match="no model that can be served"):
        host.start()


def test_a_failure_of_any_kind_leaves_what_is_served(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> Model:
        raise MemoryError("too large")

    monkeypatch.setattr(repository_module, "load_version", fail)
    publish_another(host, 2)
    host.reload()
    assert [model.version for model in host.models()] == [1]
    assert "cannot be loaded now: MemoryError: too large" in host.repository.refusals[0].reason
