"""Nothing of a call is left to the collector of circles, which would hold everything up to undo them."""

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.api import service
from serving.api.drawing import drawing_of
from serving.client import Client
from serving.config import PROCESS, THREAD, ServerConfig
from serving.engine import admission
from serving.errors import InvalidArgument
from serving.testing import running


@pytest.fixture
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("engines", [THREAD, PROCESS])
@pytest.mark.usefixtures("without_collector")
def test_a_job_that_is_done_is_gone(
    repository: Path, monkeypatch: pytest.MonkeyPatch, engines: str
) -> None:
    jobs: list[weakref.ref[Any]] = []

    async def watched(*arguments: Any) -> Any:
        drawing = await drawing_of(*arguments)
        jobs.append(weakref.ref(drawing.job))
        return drawing

    monkeypatch.setattr(service, "drawing_of", watched)
    with (
        running(ServerConfig(repository, "127.0.0.1:0", "lstm", engines=engines)) as server,
        Client(f"127.0.0.1:{server.port}") as client,
    ):
        for _ in range(5):
            client.generate(n=3)
        list(client.stream(n=300))
        client.generate()
        assert len(jobs) == 7
        assert [job() for job in jobs[:-1]] == [None] * 6


@pytest.mark.usefixtures("without_collector")
def test_a_call_that_is_refused_leaves_no_frames(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors: list[weakref.ref[Any]] = []

    def noted(error: InvalidArgument) -> InvalidArgument:
        errors.append(weakref.ref(error))
        return error

    def refuse(*arguments: Any, is_continued: bool) -> None:
        raise noted(
            InvalidArgument("n", "is refused")
        )  # a frame that has it would be a circle, too

    monkeypatch.setattr(admission.Admission, "enter", refuse)
    with (
        running(ServerConfig(repository, "127.0.0.1:0", "lstm")) as server,
        Client(f"127.0.0.1:{server.port}") as client,
    ):
        for _ in range(5):
            with pytest.raises(InvalidArgument):
                client.generate()
        assert [error() for error in errors[:-1]] == [None] * 4
