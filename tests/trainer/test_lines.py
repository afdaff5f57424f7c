from pathlib import Path

import pytest

from trainer.data.lines import check_trainable, read_lines
from trainer.errors import DataError


def written(folder: Path, content: bytes) -> Path:
    path = folder / "lines.txt"
    path.write_bytes(content)
    return path


def test_lines_are_stripped_composed_and_blank_ones_left_out(tmp_path: Path) -> None:
    content = "\ufeff  emma \r\n\n\tanna\nJose\u0301\n \n".encode()
    lines = read_lines(written(tmp_path, content))
    assert lines.strings == ("emma", "anna", "José")
    assert lines.blank == 2


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"emma\n\xff\xfe\n", r"lines.txt, line 2: not UTF-8 \(byte 0xFF at offset 5\)"),
        (b"ok\nem\0ma\n", r"line 2: holds the control character NUL \(U\+0000\)"),
        (b"em\tma\n", r"line 1: holds the control character TAB"),
        (b"em\x1b[0mma\n", r"line 1: holds the control character ESCAPE"),
        ("a\u202eb\n".encode(), r"RIGHT-TO-LEFT OVERRIDE \(U\+202E\)"),
        ("a\u2028b\n".encode(), r"LINE SEPARATOR"),
        ("an\ufeffna\n".encode(), r"ZERO WIDTH NO-BREAK SPACE"),
        ("an\u200bna\n".encode(), r"ZERO WIDTH SPACE"),
        ("an\u0085na\n".encode(), r"control character without a name \(U\+0085\)"),
        ("\u0085".join(["emma"] * 200).encode(), r"line 1: holds .* \(U\+0085\)"),
        (b"a" * 513, r"line 1: 513 characters; a line may have at most 512"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        read_lines(written(tmp_path, content))


def test_byte_order_marks_of_joined_files_are_dropped(tmp_path: Path) -> None:
    lines = read_lines(written(tmp_path, "\ufeffemma\n\ufeff anna\n".encode()))
    assert lines.strings == ("emma", "anna")
    again = read_lines(written(tmp_path, "\n".join(lines.strings).encode()))
    assert again.strings == lines.strings


def test_a_name_too_long_for_a_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="File name too long"):
        read_lines(tmp_path / ("a" * 300))


def test_the_longest_line_that_may_be_is_read(tmp_path: Path) -> None:
    assert len(read_lines(written(tmp_path, "é".encode() * 512)).strings[0]) == 512


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="missing: there is no such file"):
        read_lines(tmp_path / "missing")
    with pytest.raises(DataError, match="is a folder"):
        read_lines(tmp_path)


def test_too_little_and_too_much_is_refused() -> None:
    path = Path("lines.txt")
    with pytest.raises(DataError, match=r"lines\.txt is empty"):
        check_trainable(path, set())
    with pytest.raises(DataError, match="9 distinct lines; at least 10"):
        check_trainable(path, set("abcdefghi"))
    with pytest.raises(DataError, match=r"alphabet of 4,097 characters; at most 4,096"):
        check_trainable(path, {chr(0x4E00 + i) for i in range(4097)})
    check_trainable(path, {chr(0x4E00 + i) for i in range(4096)})
