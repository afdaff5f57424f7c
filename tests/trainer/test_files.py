import os
from pathlib import Path
from typing import BinaryIO

import pytest

from trainer.errors import RunError
from trainer.files import write_atomically, write_text


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    write_text(path, "old")

    def fail(file: BinaryIO) -> None:
        file.write(b"half of the new")
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["kept"]


def test_a_full_disk_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    write_text(path, "old")

    def full(file: BinaryIO) -> None:
        with open("/dev/full", "wb") as device:
            device.write(b"x" * 100_000)

    with pytest.raises(RunError, match=r"cannot write .*kept: No space left on device"):
        write_atomically(path, full)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["kept"]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"cannot write .*missing/file: No such file"):
        write_text(tmp_path / "missing" / "file", "text")
