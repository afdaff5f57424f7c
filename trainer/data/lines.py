"""Reading a text file, one thing a line, and refusing what cannot be trained on."""

import hashlib
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from serving.quoting import is_control
from serving.vocabulary import MAX_ALPHABET, normalise
from trainer.errors import DataError

MAX_CHARACTERS = 512
MIN_DISTINCT = 10

_NAMES = {
    "\0": "NUL",
    "\t": "TAB",
    "\v": "VERTICAL TAB",
    "\f": "FORM FEED",
    "\r": "CARRIAGE RETURN",
    "\x1b": "ESCAPE",
    "\x7f": "DELETE",
}


@dataclass(frozen=True)
class Lines:
    """The lines of a file: stripped, NFC-normalised, blank ones left out, in the file's order."""

    path: Path
    strings: tuple[str, ...]
    blank: int
    sha256: str


def read_lines(path: Path) -> Lines:
    """Read and check a UTF-8 file.

    Raises:
        DataError: it cannot be read, or a line of it cannot be used; names the line.
    """
    try:
        content = path.read_bytes()
    except IsADirectoryError:
        raise DataError(f"{path} is a folder; give a text file with one thing a line") from None
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    strings = list(_checked(path, content))
    return Lines(
        path=path,
        strings=tuple(s for s in strings if s),
        blank=strings.count(""),
        sha256=hashlib.sha256(content).hexdigest(),
    )


def read_some_lines(path: Path) -> Lines:
    """As `read_lines`; raises DataError for a file that has none, too."""
    lines = read_lines(path)
    if not lines.strings:
        raise DataError(f"{path} is empty; give a text file with one thing a line")
    return lines


def check_trainable(path: Path, distinct: set[str]) -> None:
    """Raise DataError unless the strings are enough, and of few enough characters, to train on."""
    if not distinct:
        raise DataError(f"{path} is empty; give a text file with one thing a line")
    if len(distinct) < MIN_DISTINCT:
        raise DataError(
            f"{path} has {len(distinct)} distinct lines; at least {MIN_DISTINCT} are needed to "
            "train and to measure"
        )
    if (alphabet := len(set().union(*distinct))) > MAX_ALPHABET:
        raise DataError(
            f"{path} has an alphabet of {alphabet:,} characters; at most {MAX_ALPHABET:,} can be "
            "learned (is it text, one thing a line?)"
        )


def _checked(path: Path, content: bytes) -> Iterator[str]:
    """Each line normalised; byte order marks and line ends of other systems are dropped."""
    lines = content.removesuffix(b"\n").split(b"\n")
    for number, line in enumerate(lines if content else [], start=1):
        try:
            text = line.removesuffix(b"\r").decode()
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path}, line {number}: not UTF-8 (byte 0x{line[error.start]:02X} at position "
                f"{error.start}); convert the file first"
            ) from None
        text = normalise(text.strip(" \t\ufeff"))
        if len(text) > MAX_CHARACTERS:
            raise DataError(
                f"{path}, line {number}: {len(text):,} characters; a line may have at most "
                f"{MAX_CHARACTERS}"
            )
        for character in text:
            if is_control(character):
                name = _NAMES.get(character) or unicodedata.name(character, "without a name")
                raise DataError(
                    f"{path}, line {number}: holds the control character {name} "
                    f"(U+{ord(character):04X}); remove it"
                )
        yield text.strip()
