"""Publishing a version: built in a folder beside its place, flushed, renamed."""

import errno
import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from trainer import files
from trainer.errors import RunError

SUMS = "SHA256SUMS"


class Taken(RunError):
    """A version of that number was published already."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"cannot write {folder}: it is there already")


def versions_in(folder: Path) -> list[int]:
    """The numbers of the versions in a model's folder."""
    return [int(p.name) for p in folder.glob("*") if p.name.isascii() and p.name.isdigit()]


def next_version(folder: Path) -> int:
    """One more than the highest version in a model's folder, gaps left as they are."""
    return max(versions_in(folder), default=0) + 1


def publish(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Make `folder` with these files and their SHA256SUMS: all of it, or nothing.

    Raises:
        Taken: it is there already.
        RunError: it cannot be written.
    """
    sums = "".join(
        f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in contents.items()
    )
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    with files.naming_failures(folder):
        try:
            beside.mkdir(parents=True)
            for name, content in {**contents, SUMS: sums.encode()}.items():
                with (beside / name).open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
            files.sync_folder(beside)
            # A folder that is not empty cannot be renamed over: a version once there stays.
            beside.rename(folder)
        except BaseException as error:
            shutil.rmtree(beside, ignore_errors=True)
            if isinstance(error, OSError) and error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                raise Taken(folder) from None
            raise
        files.sync_folder(folder.parent)
        files.sync_folder(folder.parent.parent)
