import logging
import math
import os
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from serving import watched as watched_module
from serving.errors import InvalidArgument
from serving.text_files import read_bytes
from serving.watched import Watched
from tests.serving.process import wait_until
from tests.serving.test_tls import spoil


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "value"
    path.write_text("1")
    return path


def number(path: Path) -> int:
    """The number in a file."""
    try:
        return int(path.read_text())
    except ValueError:
        raise InvalidArgument("value", "is no number") from None


def test_a_file_that_stays_is_read_once(path: Path) -> None:
    calls: list[int] = []
    watched = Watched([path], lambda: calls.append(number(path)))
    for _ in range(3):
        watched.current()
    assert calls == [1]


def test_a_change_is_seen_whether_written_in_place_replaced_or_linked(path: Path) -> None:
    link = path.with_name("link")
    link.symlink_to(path)
    watched = Watched([link], lambda: number(link))
    path.write_text("22")
    assert watched.current() == 22
    beside = path.with_name("beside")
    beside.write_text("33")
    beside.replace(path)
    assert watched.current() == 33
    other = path.with_name("other")
    other.write_text("44")
    turned = path.with_name("turned")
    turned.symlink_to(other)
    os.replace(turned, link)
    assert watched.current() == 44


@pytest.mark.parametrize("fault", ["spoilt", "gone"])
def test_what_cannot_be_read_leaves_the_old_value_and_is_logged_once(
    path: Path, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    watched = Watched([path], lambda: number(path))
    if fault == "gone":
        path.unlink()
    else:
        path.write_text("no number")
    with caplog.at_level(logging.ERROR):
        assert [watched.current() for _ in range(3)] == [1, 1, 1]
    assert len(caplog.records) == 1
    assert str(path) in caplog.text
    path.write_text("5")
    assert watched.current() == 5


def test_what_could_not_be_used_is_tried_again_and_told_again_only_if_it_is_something_else(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    reasons = [OSError("no descriptors"), OSError("no descriptors"), OSError("no memory")]

    def flaky() -> int:
        if path.read_text() == "2" and reasons:
            raise reasons.pop(0)
        return number(path)

    watched = Watched([path], flaky)
    path.write_text("2")
    assert watched.current() == 1
    assert watched.current() == 1  # too soon to be tried again
    assert len(reasons) == 2
    monkeypatch.setattr(watched_module, "time", SimpleNamespace(monotonic=lambda: math.inf))
    assert [watched.current() for _ in range(3)] == [1, 1, 2]
    errors = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert [error.rpartition(": ")[2] for error in errors] == ["no descriptors", "no memory"]


def test_a_file_that_others_may_read_from_now_on_is_read(path: Path) -> None:
    calls: list[int] = []
    watched = Watched([path], lambda: calls.append(number(path)))
    path.chmod(0o600)
    watched.current()
    assert calls == [1, 1]


def test_nobody_waits_longer_than_is_allowed_for_a_new_value(path: Path) -> None:
    may_go_on, calls = threading.Event(), []

    def slow() -> int:
        calls.append(path.read_text())
        if len(calls) > 1:
            assert may_go_on.wait(60)
        return number(path)

    watched = Watched([path], slow, patience=0.01)
    path.write_text("2")
    assert [watched.current() for _ in range(3)] == [1, 1, 1]
    assert calls == ["1", "2"]  # one at a time is made
    may_go_on.set()
    wait_until(lambda: watched.current() == 2)


def test_a_machine_without_threads_leaves_the_old_value_for_now(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched([path], lambda: number(path))
    path.write_text("2")
    with monkeypatch.context() as without:

        def fail(self: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        without.setattr(threading.Thread, "start", fail)
        assert watched.current() == 1
    assert watched.current() == 2


@pytest.mark.parametrize("fault", ["a pipe", "a folder", "a device", "huge"])
def test_nothing_but_a_file_of_some_size_is_read(tmp_path: Path, fault: str) -> None:
    spoil(tmp_path / "spoilt", fault)
    with pytest.raises(InvalidArgument, match=r"not a regular file|folder|more than 1,048,576"):
        read_bytes(tmp_path / "spoilt", "x", is_watched=True)
