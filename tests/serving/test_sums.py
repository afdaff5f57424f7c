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


def bytes_read() -> int:
    """Bytes that this process has read from files so far."""
    return int(Path("/proc/self/io").read_text().split()[1])


@pytest.mark.parametrize("name", [MODEL, "known.u64", "SHA256SUMS", "README.md"])
def test_nothing_is_read_of_a_file_that_is_too_large(folder: Path, name: str) -> None:
    if name != "SHA256SUMS":
        (folder / "SHA256SUMS").write_text(f"{SUM}  {name}\n")
    with (folder / name).open("wb") as file:
        file.truncate(2**40)  # takes no room on the disk
    before = bytes_read()
    with pytest.raises(BadModel, match=f"{name} is larger than [0-9,]+ bytes"):
        read_verified(folder)
    assert bytes_read() - before < 2**16


def test_a_file_that_grows_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "growing"
    path.write_bytes(CONTENT)
    found = os.fstat

    def fstat(descriptor: int) -> os.stat_result:
        before = found(descriptor)
        path.write_bytes(CONTENT * 2)
        return before

    monkeypatch.setattr(os, "fstat", fstat)
    with pytest.raises(BadModel, match="growing changes while it is read"):
        read_plain(path, 1000)


def test_a_folder_of_too_many_files_is_refused(folder: Path) -> None:
    for number in range(sums.MAX_ENTRIES):
        (folder / f".{number}").touch()
    with pytest.raises(BadModel, match="the folder holds more than 256 files"):
        read_verified(folder)


def test_a_file_for_which_there_is_no_memory_is_not_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / MODEL
    monkeypatch.setattr(sums, "memory_left", lambda: 2 * path.stat().st_size)
    with pytest.raises(MemoryError, match=f"{MODEL} has .* bytes"):
        read_plain(path, 2**20)
    monkeypatch.setattr(sums, "memory_left", lambda: 4 * path.stat().st_size)
    assert read_plain(path, 2**20) == path.read_bytes()
