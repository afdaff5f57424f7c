"""The reader of lists and text files: a list means its words, whichever editor saved it."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from serving import text_files
from serving.cli import main
from serving.errors import InvalidArgument, MakemoreError
from serving.text_files import STDIN, Line, read_bytes, read_lines
from trainer.data import lines as trainer_lines

# Each means the words "ann" and "josé" and nothing else; the line numbers are those of an editor.
SAVED = {
    "plain": ("ann\njosé\n".encode(), (1, 2)),
    "no line end at the end": ("ann\njosé".encode(), (1, 2)),
    "byte order mark": ("\ufeffann\njosé\n".encode(), (1, 2)),
    "byte order marks of joined files": ("\ufeffann\n\ufeffjosé\n".encode(), (1, 2)),
    "byte order mark on a line alone": ("\ufeff\nann\njosé\n".encode(), (2, 3)),
    "CRLF": ("ann\r\njosé\r\n".encode(), (1, 2)),
    "byte order mark and CRLF": ("\ufeffann\r\njosé\r\n".encode(), (1, 2)),
    "CR": ("ann\rjosé\r".encode(), (1, 2)),
    "CR, none at the end": ("ann\rjosé".encode(), (1, 2)),
    "line ends of every kind": ("ann\r\r\n\njosé".encode(), (1, 4)),
    "trailing blanks": ("ann \njosé\t \n".encode(), (1, 2)),
    "leading blanks": ("  ann\n\tjosé\n".encode(), (1, 2)),
    "no-break spaces": ("ann\u00a0\n\u3000josé\u2003\n".encode(), (1, 2)),
    "blank lines": ("\n \nann\n\t\n\njosé\n\n".encode(), (3, 6)),
    "decomposed": ("ann\njose\u0301\n".encode(), (1, 2)),
}
# Each is refused, with the line and the offset of the byte that is no text.
SPOILT = {
    "Latin-1": ("ann\njosé\n".encode("latin-1"), r"line 2: not UTF-8 \(byte 0xE9 at offset 7\)"),
    "Latin-1 with CR": ("ann\rjosé\r".encode("latin-1"), r"line 2: .*0xE9 at offset 7\)"),
    "Latin-1 with CRLF": ("ann\r\njosé\r\n".encode("latin-1"), r"line 2: .*0xE9 at offset 8\)"),
    "cut": ("ann\njosé".encode()[:-1], r"line 2: not UTF-8 \(byte 0xC3 at offset 7\)"),
    "surrogate": (b"ann\n\xed\xa0\x80\n", r"line 2: not UTF-8 \(byte 0xED at offset 4\)"),
    "UTF-16": ("ann\njosé\n".encode("utf-16"), r"line 1: UTF-16, not UTF-8 .*at offset 0\)"),
    "UTF-16, big": (b"\xfe\xff" + "ann".encode("utf-16-be"), r"line 1: UTF-16, not UTF-8 .*"),
    "UTF-32": ("ann\njosé\n".encode("utf-32"), r"line 1: UTF-32, not UTF-8 .*"),
    "UTF-16 without a mark": ("ann\n".encode("utf-16-le"), r"line 1: .*NUL.*UTF-16.*at offset 1\)"),
    "NUL": (b"ann\nlee\0\n", r"line 2: .*NUL \(U\+0000\).*at offset 7\)"),
}


def saved(folder: Path, content: bytes) -> Path:
    path = folder / "list.txt"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(("content", "numbers"), SAVED.values(), ids=SAVED)
def test_a_list_means_its_words(tmp_path: Path, content: bytes, numbers: tuple[int, ...]) -> None:
    path = saved(tmp_path, content)
    expected = [Line(number, text) for number, text in zip(numbers, ("ann", "josé"), strict=True)]
    assert read_lines(path, "forbidden") == expected
    assert trainer_lines.read_lines(path).strings == ("ann", "josé")


@pytest.mark.parametrize(("content", "reason"), SPOILT.values(), ids=SPOILT)
def test_what_is_no_utf8_is_one_line_with_the_place(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    path = saved(tmp_path, content)
    with pytest.raises(InvalidArgument, match=f"^forbidden: {path}, {reason}; save the file as"):
        read_lines(path, "forbidden")
    with pytest.raises(MakemoreError, match=f"^data: {path}, {reason}"):
        trainer_lines.read_lines(path)


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n\r\n", b" \n\t\n", "\ufeff".encode()])
def test_a_file_of_nothing_has_no_lines(tmp_path: Path, content: bytes) -> None:
    path = saved(tmp_path, content)
    assert read_lines(path, "forbidden") == []
    assert trainer_lines.read_lines(path).strings == ()


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\v", "\f", "\x1c"])
def test_nothing_but_cr_and_lf_ends_a_line(tmp_path: Path, separator: str) -> None:
    path = saved(tmp_path, f"ann{separator}lee\n".encode())
    with pytest.raises(InvalidArgument, match=r"list.txt, line 1: holds the control character"):
        read_lines(path, "forbidden")
    kept = read_lines(path, "file", allow_controls=True)
    assert kept == [Line(1, f"ann{separator}lee")]


def test_files_that_cannot_be_opened_are_named(tmp_path: Path) -> None:
    for path, reason in (
        (tmp_path / "missing", "there is no such file"),
        (tmp_path, "is a folder"),
        (saved(tmp_path, b"") / "below", "Not a directory"),
        (tmp_path / ("a" * 300), "File name too long"),
        (tmp_path / "\0", "null byte"),
    ):
        with pytest.raises(InvalidArgument, match=f"^forbidden: .*{reason}"):
            read_lines(path, "forbidden")


def test_a_pipe_that_nobody_writes_to_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_files, "PIPE_WAIT", 0.0)
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(InvalidArgument, match="pipe is a named pipe that nobody writes to"):
        read_bytes(path, "forbidden")
    with pytest.raises(InvalidArgument, match="pipe is not a regular file"):
        read_bytes(path, "token_file", is_watched=True)


def test_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    content = b"ann\n" * 50_000  # more than a pipe holds at once
    writer = threading.Thread(target=path.write_bytes, args=(content,))
    writer.start()
    try:
        assert read_bytes(path, "forbidden") == content
    finally:
        writer.join()


def test_a_dash_is_standard_input() -> None:
    program = "from serving.text_files import *; print(read_lines(STDIN, 'file'))"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, input=b"\xef\xbb\xbfann\r\n", capture_output=True, check=True)
    assert done.stdout.decode().strip() == str([Line(1, "ann")])
    assert str(STDIN) == "-"


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["serve", "--forbidden", "list.txt"], "--forbidden"),
        (["generate", "--exclude", "list.txt"], "--exclude"),
        (["top", "--exclude", "list.txt"], "--exclude"),
        (["score", "list.txt"], "FILE"),
        (["generate", "--token-file", "list.txt"], "--token-file"),
        (["serve", "--token-file", "list.txt"], "--token-file"),
    ],
)
def test_commands_name_the_flag_and_the_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    saved(tmp_path, b"ann\njos\xe9\n")
    where = ["--listen" if arguments[0] == "serve" else "--address", "127.0.0.1:1"]
    result = CliRunner().invoke(main, [*arguments, *where])
    assert result.exit_code == 2
    assert result.output == (
        f"error: {name}: list.txt, line 2: not UTF-8 (byte 0xE9 at offset 7); "
        "save the file as UTF-8\n"
    )
