import logging
import os
from pathlib import Path

import pytest

from serving.errors import InvalidArgument
from serving.watched import Watched


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
