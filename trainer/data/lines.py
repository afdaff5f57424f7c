"""Reading a text file, one thing a line, and refusing what cannot be trained on."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from serving.errors import InvalidArgument
from serving.quoting import control_character
from serving.text_files import Line, name_of, read_bytes, split_lines
from serving.vocabulary import MAX_ALPHABET
from trainer.errors import DataError

MAX_CHARACTERS = 512
MIN_DISTINCT = 10


@dataclass(frozen=True)
class Lines:
    """The lines of a file: stripped, NFC-normalised, blank ones left out, in the file's order."""

    path: Path
    strings: tuple[str, ...]
    blank: int
    sha256: str


def read_lines(path: Path, field: str = "data") -> Lines:
    """Read and check a UTF-8 file.

    Args:
        path: the file.
        field: the name of the setting that has the path, for errors.

    Raises:
        DataError: it cannot be read, or a line of it cannot be used; names the line.
    """
    try:
        content = read_bytes(path, field)
        lines = split_lines(content, path, field)
    except InvalidArgument as error:
        raise DataError(field, error.description) from None
    for line in lines:
        _check(path, line, field)
    strings = [line.text for line in lines]
    return Lines(
        path=path,
        strings=tuple(s for s in strings if s),
        blank=strings.count(""),
        sha256=hashlib.sha256(content).hexdigest(),
    )


def read_some_lines(path: Path, field: str = "data") -> Lines:
    """As `read_lines`; raises DataError for a file that has none, too."""
    lines = read_lines(path, field)
    if not lines.strings:
        raise DataError(field, f"{name_of(path)} is empty; give a text file with one thing a line")
    return lines


def check_trainable(path: Path, distinct: set[str]) -> None:
    """Raise DataError unless the strings are enough, and of few enough characters, to train on."""
    if not distinct:
        raise DataError("data", f"{name_of(path)} is empty; give a text file with one thing a line")
    if len(distinct) < MIN_DISTINCT:
        raise DataError(
            "data",
            f"{name_of(path)} has {len(distinct)} distinct lines; at least {MIN_DISTINCT} are needed to "
            "train and to measure",
        )
    if (alphabet := len(set().union(*distinct))) > MAX_ALPHABET:
        raise DataError(
            "data",
            f"{name_of(path)} has an alphabet of {alphabet:,} characters; at most {MAX_ALPHABET:,} can be "
            "learned (is it text, one thing a line?)",
        )


def _check(path: Path, line: Line, field: str) -> None:
    """Raise DataError for a line that cannot be trained on."""
    where = f"{name_of(path)}, line {line.number}"
    # First, since it may be a line end of another kind, which makes the file a single line.
    if found := control_character(line.text):
        raise DataError(field, f"{where}: holds {found}; remove it")
    if len(line.text) > MAX_CHARACTERS:
        raise DataError(
            field,
            f"{where}: {len(line.text):,} characters; a line may have at most {MAX_CHARACTERS}",
        )
