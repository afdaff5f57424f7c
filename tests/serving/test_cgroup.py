import sys
from pathlib import Path

import pytest

from serving.cgroup import memory_left, memory_total


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A group `pod/server` of 300 bytes, 250 of them in use, 90 for cached files."""
    folder = tmp_path / "pod" / "server"
    folder.mkdir(parents=True)
    (folder / "memory.max").write_text("300\n")
    (folder / "memory.current").write_text("250\n")
    (folder / "memory.stat").write_text("anon 160\nactive_file 30\ninactive_file 60\n")
    (tmp_path / "membership").write_text("1:name=systemd:/x\n0::/pod/server\n")
    return tmp_path


def left(root: Path) -> int:
    return memory_left(root, root / "membership")


def test_what_is_left_is_the_limit_less_what_is_used_for_more_than_a_cache(root: Path) -> None:
    assert left(root) == 140


def test_it_is_never_negative(root: Path) -> None:
    (root / "pod" / "server" / "memory.current").write_text("1000\n")
    assert left(root) == 0


@pytest.mark.parametrize("name", ["max", "current", "stat"])
def test_without_a_limit_there_is_no_end(root: Path, name: str) -> None:
    path = root / "pod" / "server" / f"memory.{name}"
    path.write_text("max\n" if name == "max" else "")
    if name == "stat":
        path.unlink()
    assert left(root) == sys.maxsize


def test_outside_of_any_group_there_is_no_end(root: Path) -> None:
    (root / "membership").write_text("4:memory:/old\n")
    assert left(root) == sys.maxsize


def test_the_total_is_that_of_the_container_or_of_the_machine(root: Path) -> None:
    assert memory_total(root, root / "membership") == 300
    (root / "pod" / "server" / "memory.max").write_text("max\n")
    assert memory_total(root, root / "membership") > 2**20
