"""Reader of all lists and text files: one item per line, in the formats that editors save."""

import codecs
import os
import re
import select
import stat
import sys
import unicodedata
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final

from serving.errors import InvalidArgument
from serving.quoting import control_character, printable

STDIN: Final = Path("-")
BOM: Final = b"\xef\xbb\xbf"
"""Byte order mark in UTF-8, which some editors write."""
MAX_WATCHED: Final = 2**20
"""Maximum size in bytes of a file that the server reloads when it changes."""
PIPE_WAIT: Final = 5.0
"""Seconds to wait for a writer of a named pipe."""
LONG: Final = 256
"""Length in code points above which text that is not in NFC is decomposed here first, in linear time."""

_LINE_END = re.compile("\r\n|\n|\r")  # str.splitlines also cuts at U+0085, U+2028 and others
_LINE_END_BYTES = re.compile(rb"\r\n|\n|\r")
# Space separators, tabs, and byte order marks, which occur inside concatenated files, too.
_BLANKS = " \t\u00a0\u1680\u202f\u205f\u3000\ufeff" + "".join(map(chr, range(0x2000, 0x200B)))
_OTHER_ENCODINGS = (  # longest mark first: that of UTF-32-LE begins with that of UTF-16-LE
    ("UTF-32", (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)),
    ("UTF-16", (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)),
)


@dataclass(frozen=True)
class Line:
    """A line of a file: its number, from 1, and its text, stripped and in composed form (NFC)."""

    number: int
    text: str


def normalise(text: str) -> str:
    """Return text in Unicode's composed form (NFC), in which every model counts characters."""
    if len(text) > LONG and not unicodedata.is_normalized("NFC", text):
        text = decomposed(text)
    return unicodedata.normalize("NFC", text)


def decomposed(text: str) -> str:
    """Return text in Unicode's decomposed form (NFD), without quadratic time for many combining marks.

    `unicodedata.normalize` takes quadratic time in the number of marks on one letter unless they are sorted.
    """
    characters = [c for one in text for c in unicodedata.normalize("NFD", one)]
    runs = groupby(characters, key=lambda character: unicodedata.combining(character) > 0)
    return "".join(
        [
            c
            for is_marks, run in runs
            for c in (sorted(run, key=unicodedata.combining) if is_marks else run)
        ]
    )


def read_lines(path: Path, field: str, *, allow_controls: bool = False) -> list[Line]:
    """Read the non-blank lines of a UTF-8 file.

    Args:
        path: the file; `-` is standard input.
        field: the name of the setting that has the path, for errors.
        allow_controls: accept lines with control characters, which no string of a model has.

    Raises:
        InvalidArgument: the file cannot be read, is not UTF-8, or has a control character.
    """
    lines = [line for line in split_lines(read_bytes(path, field), path, field) if line.text]
    for line in lines:
        if not allow_controls and (found := control_character(line.text)):
            raise InvalidArgument(
                field, f"{name_of(path)}, line {line.number}: holds {found}; remove it"
            )
    return lines


def split_lines(content: bytes, path: Path, field: str) -> list[Line]:
    """Decode the content of a file and split it into lines, blank ones included.

    Byte order marks and blanks around a line are dropped; a line ends with LF, CRLF or CR.

    Raises:
        InvalidArgument: the content is not UTF-8; names the line and the offset of the first bad byte.
    """
    lines = _LINE_END.split(_decoded(content, path, field))
    if not lines[-1]:  # a line end terminates the last line and starts no new one
        lines.pop()
    stripped = (line.strip(_BLANKS) for line in lines)
    return [Line(number, normalise(text)) for number, text in enumerate(stripped, start=1)]


def read_bytes(path: Path, field: str, *, is_watched: bool = False) -> bytes:
    """Read a file, a pipe that has a writer, or standard input.

    Args:
        path: the file; `-` is standard input.
        field: the name of the setting that has the path, for errors.
        is_watched: whether the file is reloaded when it changes; it must be a regular file of at most
            MAX_WATCHED bytes.

    Raises:
        InvalidArgument: it cannot be opened or read, is not a regular file, is too large, or is a pipe
            without a writer.
    """
    name = name_of(path)
    try:
        if path == STDIN:
            return sys.stdin.buffer.read() if sys.stdin else b""
        # Without O_NONBLOCK, opening a named pipe would wait for a writer indefinitely.
        with open(path, "rb", opener=_open_nonblocking) as file:
            descriptor = file.fileno()
            mode = os.fstat(descriptor).st_mode
            if is_watched and not stat.S_ISREG(mode):
                raise InvalidArgument(field, f"{name} is not a regular file")
            if stat.S_ISFIFO(mode) and not _has_writer(descriptor):
                raise InvalidArgument(field, f"{name} is a named pipe that nobody writes to")
            os.set_blocking(descriptor, True)
            content = file.read(MAX_WATCHED + 1 if is_watched else -1)
            if is_watched and len(content) > MAX_WATCHED:
                raise InvalidArgument(field, f"{name} has more than {MAX_WATCHED:,} bytes")
            return content
    except IsADirectoryError:
        raise InvalidArgument(field, f"{name} is a folder; give a file") from None
    except FileNotFoundError:
        raise InvalidArgument(field, f"{name}: there is no such file") from None
    except (OSError, ValueError) as error:  # a path with a NUL is a ValueError
        reason = error.strerror if isinstance(error, OSError) else error
        raise InvalidArgument(field, f"{name} cannot be read: {reason}") from None


def _open_nonblocking(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


def name_of(path: Path) -> str:
    """Return the name of a file for messages."""
    return "standard input" if path == STDIN else printable(str(path))


def _has_writer(descriptor: int) -> bool:
    """Wait until a pipe has data or its last writer closes it; False if neither happens in PIPE_WAIT."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(PIPE_WAIT * 1000))


def _decoded(content: bytes, path: Path, field: str) -> str:
    for encoding, marks in _OTHER_ENCODINGS:
        if content.startswith(marks):
            raise _not_utf8(content, 0, f"{encoding}, not UTF-8", path, field)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _not_utf8(content, error.start, "not UTF-8", path, field) from None
    if (place := content.find(b"\0")) >= 0:
        what = "holds the control character NUL (U+0000), as UTF-16 does"
        raise _not_utf8(content, place, what, path, field)
    return text


def _not_utf8(content: bytes, place: int, what: str, path: Path, field: str) -> InvalidArgument:
    line = len(_LINE_END_BYTES.findall(content, 0, place)) + 1
    return InvalidArgument(
        field,
        f"{name_of(path)}, line {line}: {what} (byte 0x{content[place]:02X} at offset {place:,}); "
        "save the file as UTF-8",
    )
