"""Other names for versions, in `aliases.json` of a model's folder: `{"stable": 2}`."""

import fcntl
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from serving import checks
from serving.catalogue import VERSION
from serving.errors import BadModel, InvalidArgument, NotFound, Unwritable
from serving.quoting import quoted
from serving.sums import read_plain

FILE = "aliases.json"
ALIAS = re.compile(r"[a-z][a-z0-9._-]{0,62}", re.ASCII)
MAX_BYTES = 2**16
MAX_ALIASES = 64
RULE = "1 to 63 of a-z, 0-9, '.', '_' and '-', the first a letter"


def read(folder: Path) -> dict[str, int]:
    """The aliases of a model, by the version that each means; none where there is no file.

    Raises:
        BadModel: the file is not what `write` writes.
    """
    path = folder / FILE
    try:
        path.lstat()
        value = json.loads(read_plain(path, MAX_BYTES))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise BadModel(f"{FILE} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise BadModel(f"{FILE} is not JSON of at most {MAX_BYTES:,} bytes") from None
    if not isinstance(value, dict):
        raise BadModel(f"{FILE} is not a JSON object")
    if len(value) > MAX_ALIASES:
        raise BadModel(f"{FILE} has more than {MAX_ALIASES} aliases")
    for alias, version in value.items():
        if not (
            ALIAS.fullmatch(alias) and type(version) is int and VERSION.fullmatch(str(version))
        ):
            raise BadModel(f"{FILE}: {quoted(alias)} is not an alias with the version it means")
    return value


def write(folder: Path, alias: str, version: int | None) -> dict[str, int]:
    """Let an alias mean a version, or nothing any more; all aliases after that.

    Raises:
        InvalidArgument: it cannot be called so, or the model has too many aliases.
        NotFound: the folder has no such version, or no such alias to be removed.
        BadModel: the file that is there cannot be read.
        Unwritable: the file cannot be written; the old one is as it was.
    """
    if not ALIAS.fullmatch(alias):
        raise InvalidArgument("alias", f"{quoted(alias)} must be {RULE}")
    if version is not None and not (folder / str(version)).is_dir():
        raise NotFound(f"{folder} has no version {version}")
    with _alone(folder):
        aliases = read(folder)
        if version is not None:
            aliases[alias] = version
            checks.whole("aliases of a model", len(aliases), 0, MAX_ALIASES)
        elif aliases.pop(alias, None) is None:
            raise NotFound(f"{folder} has no alias '{alias}'")
        _replace(folder / FILE, json.dumps(aliases, indent=1, sort_keys=True) + "\n")
    return aliases


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep others from writing meanwhile, who would lose what is written here or the reverse."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise NotFound(f"{folder} is no model's folder: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _replace(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with beside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise Unwritable(f"cannot write {path}: {error.strerror}") from None
