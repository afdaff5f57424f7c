import hashlib
import os
from pathlib import Path

import pytest

from serving import sums
from serving.errors import BadModel
from serving.sums import MAX_FILES, MODEL, read_plain, read_verified

CONTENT = b"content"
SUM = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A version of two files."""
    for name in ("model.onnx", "README.md"):
        (tmp_path / name).write_bytes(CONTENT)
    (tmp_path / "SHA256SUMS").write_text(f"{SUM}  model.onnx\n{SUM} *README.md\n")
    return tmp_path


def test_files_whose_sums_hold_are_read(folder: Path) -> None:
    assert read_verified(folder) == {"model.onnx": CONTENT}


def test_a_file_that_is_not_what_its_sum_says_is_refused_whichever_it_is(folder: Path) -> None:
    (folder / "README.md").write_bytes(CONTENT[:-1])
    with pytest.raises(BadModel, match=r"README.md is not what was published"):
        read_verified(folder)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (f"{SUM}  ../1/model.onnx", "is not a sum and a file's name"),
        (f"{SUM}  ..", "is not a sum and a file's name"),
        (f"{SUM}  /etc/passwd", "is not a sum and a file's name"),
        (f"{SUM}  model.onnx", "names model.onnx twice"),
        ("\x1b[2J\x7f", r"'\\x1b\[2J\\x7f' is not a sum"),
        (f"{SUM}  x\n" * MAX_FILES, "at most 64 are taken"),
        ("x" * 2**16, "SHA256SUMS is larger than 65,536 bytes"),
    ],
)
def test_lines_that_are_no_sums_are_refused(folder: Path, line: str, reason: str) -> None:
    with (folder / "SHA256SUMS").open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(BadModel, match=reason):
        read_verified(folder)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("link", "it is a link"),
        ("link to nothing", "it is a link"),
        ("pipe", "it is no plain file"),
        ("folder", "Is a directory"),
        ("missing", "No such file"),
    ],
)
@pytest.mark.parametrize("name", ["model.onnx", "SHA256SUMS"])
@pytest.mark.timeout(10)
def test_what_is_no_plain_file_is_not_read(folder: Path, name: str, kind: str, reason: str) -> None:
    path = folder / name
    path.rename(folder / "moved")
    match kind:
        case "link":
            path.symlink_to("moved")
        case "link to nothing":
            path.symlink_to("nothing")
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
    with pytest.raises(BadModel, match=f"^{name} cannot be read: {reason}"):
        read_verified(folder)


def test_a_file_that_has_no_end_is_read_to_the_bound_alone(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(2**40)  # takes no room on the disk
    with pytest.raises(BadModel, match="larger than 1,000 bytes"):
        read_plain(path, 1000)


def test_a_file_for_which_there_is_no_memory_is_not_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / MODEL
    monkeypatch.setattr(sums, "memory_left", lambda: 2 * path.stat().st_size)
    with pytest.raises(MemoryError, match=f"{MODEL} has .* bytes"):
        read_plain(path, 2**20)
    monkeypatch.setattr(sums, "memory_left", lambda: 4 * path.stat().st_size)
    assert read_plain(path, 2**20) == path.read_bytes()
