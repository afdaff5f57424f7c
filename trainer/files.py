"""Writing that loses nothing: beside, flushed to disk, renamed."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from trainer.errors import RunError


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries, so that a rename in it survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def naming_failures(path: Path) -> Iterator[None]:
    """Turn the operating system's refusal to write `path` into one line for a person."""
    try:
        yield
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}") from error


POINTS = ("begun", "opened", "written", "flushed", "renamed", "ended")
"""The named points of writing: at any of them the program may be killed and nothing is lost."""


def passing(point: str, path: Path) -> None:
    """Told at each point; does nothing. Tests end the program here."""


def is_part(name: str) -> bool:
    """Whether a file is what `write_atomically` leaves when the program is killed in it."""
    return name.startswith(".") and name.endswith(".part")


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Replace `path` by what `write` writes, or leave it as it was.

    Raises:
        RunError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    passing("begun", path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    with naming_failures(path):
        try:
            with beside.open("wb") as file:
                passing("opened", path)
                write(file)
                passing("written", path)
                file.flush()
                os.fsync(file.fileno())
            passing("flushed", path)
            beside.replace(path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        passing("renamed", path)
        sync_folder(path.parent)
    passing("ended", path)


def write_text(path: Path, text: str) -> None:
    """Replace `path` by UTF-8 text, atomically."""
    write_atomically(path, lambda file: file.write(text.encode()))
