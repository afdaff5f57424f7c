"""The files of a published version, each of them what SHA256SUMS says.

A file is read once, from its one descriptor, so that what was verified is what is used. What is no plain
file (a link, a pipe, a device) is not opened for reading, and nothing of a file beyond its bound is read.
"""

import errno
import hashlib
import os
import re
import stat
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from serving.cgroup import memory_left
from serving.errors import BadModel
from serving.quoting import quoted

MODEL = "model.onnx"
KNOWN = "known.u64"
SUMS = "SHA256SUMS"
MAX_SIZES = {MODEL: 512 * 2**20, KNOWN: 256 * 2**20}
"""Bytes: of a model, and of the fingerprints of 33 million strings."""
MAX_OTHER = 16 * 2**20
MAX_SUMS = 64 * 2**10
MAX_FILES = 64
MAX_ENTRIES = 256
"""Files and folders in the folder of a version, hidden ones too."""
PASSING = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ESTALE, errno.ETIMEDOUT}
"""What the file itself has no part in; it may be read later."""
MEMORY = 0.25
"""The part of the memory that is left that a file may take: what is made of it takes more than it."""
SUM_LINE = re.compile(r"([0-9a-f]{64}) [ *]([A-Za-z0-9_-][A-Za-z0-9._-]*)", re.ASCII)


def read_verified(folder: Path) -> dict[str, bytes]:
    """The bytes of the model and its list of known strings, by their names; every sum holds.

    Raises:
        BadModel: a file is missing, too large, no plain file, not what was published, or has no sum.
    """
    found = entries(folder)
    contents: dict[str, bytes] = {}
    names = set()
    for name, digest in _sums(folder):
        if name in names:
            raise BadModel(f"{SUMS} names {name} twice")
        names.add(name)
        content = read_plain(folder / name, MAX_SIZES.get(name, MAX_OTHER))
        if hashlib.sha256(content).hexdigest() != digest:
            raise BadModel(f"{name} is not what was published: its SHA-256 does not hold")
        if name in MAX_SIZES:
            contents[name] = content
    if MODEL not in contents:
        raise BadModel(f"{SUMS} does not name {MODEL}")
    # Else a list that was cut at a line's end would pass, and the model without what is left out.
    for name in sorted(entry.name for entry in found):
        if name not in names and name != SUMS and not name.startswith("."):
            raise BadModel(f"{SUMS} does not name {quoted(name)}, which is there")
    return contents


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is in the folder of a version, in no order; raises BadModel if that is too much."""
    try:
        with os.scandir(folder) as found:
            listed = list(islice(found, MAX_ENTRIES + 1))
    except OSError as error:
        if error.errno in PASSING:
            raise
        raise BadModel(f"the folder cannot be read: {error.strerror}") from None
    if len(listed) > MAX_ENTRIES:
        raise BadModel(f"the folder holds more than {MAX_ENTRIES} files")
    return listed


def _sums(folder: Path) -> Iterator[tuple[str, str]]:
    """Each file's name and sum, as the list has them, which is read strictly; raises BadModel."""
    try:
        *lines, rest = read_plain(folder / SUMS, MAX_SUMS).decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise BadModel(f"{SUMS} cannot be read: it is not plain ASCII") from None
    if rest:
        raise BadModel(f"{SUMS}: its last line has no end")
    if len(lines) > MAX_FILES:
        raise BadModel(f"{SUMS} has {len(lines)} lines; at most {MAX_FILES} are taken")
    for line in lines:
        match = SUM_LINE.fullmatch(line)
        if match is None:
            raise BadModel(f"{SUMS}: {quoted(line)} is not a sum and a file's name")
        yield match[2], match[1]


def read_plain(path: Path, most: int) -> bytes:
    """The bytes of a plain file of at most `most` bytes.

    Raises:
        BadModel: it is none, or is larger.
        OSError, MemoryError: it cannot be read now.
    """
    try:
        with open(path, "rb", opener=_open) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise BadModel(f"{path.name} cannot be read: it is no plain file")
            if found.st_size > most:
                raise BadModel(f"{path.name} is larger than {most:,} bytes")
            if found.st_size > MEMORY * memory_left():
                raise MemoryError(f"{path.name} has {found.st_size:,} bytes")
            content = file.read(found.st_size + 1)
    except OSError as error:
        if error.errno in PASSING:
            raise
        reason = "it is a link" if path.is_symlink() else error.strerror
        raise BadModel(f"{path.name} cannot be read: {reason}") from None
    if len(content) != found.st_size:
        raise BadModel(f"{path.name} changes while it is read")
    return content


def _open(path: str, flags: int) -> int:
    """Neither through a link, nor waiting for who writes into a pipe."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
