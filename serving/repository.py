"""Published models on disk: which there are, whether they are whole, and what has changed.

A version whose files do not hold what they promise is refused with its reason; the others are served,
and so is what was loaded from its folder before.
"""

import hashlib
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from serving import aliases
from serving.catalogue import Aliases, Catalogue
from serving.constraints.taken import Known
from serving.engine.stepping import StepSession
from serving.errors import BadModel, NotFound, Unavailable, Undecided
from serving.graph_check import check
from serving.layout import MODELS, VERSIONS, Level
from serving.manifest import Manifest
from serving.placement import ON_CPU
from serving.quoting import printable, quoted
from serving.sums import KNOWN, MAX_ENTRIES, MODEL, read_verified
from serving.verification import Verification

Stamp = tuple[tuple[str, int, int, int], ...]
MAX_REASON = 2000
"""Characters of a reason."""
RETRY, MAX_RETRY = 5.0, 3600.0
"""Seconds between attempts to judge a version, from the second on; they double up to MAX_RETRY."""
MAX_STRAYS = 20
"""Folders with unusable names that are told of."""


@dataclass(frozen=True)
class Model:
    """A version that can be served; `aliases` are the other names for it."""

    folder: Path
    name: str
    version: int
    digest: str
    session: StepSession
    known: Known | None = None
    aliases: tuple[str, ...] = ()

    @property
    def manifest(self) -> Manifest:
        """What the file says of itself."""
        return self.session.manifest

    @property
    def full_name(self) -> str:
        """`models/names@1`."""
        return f"models/{self.short_name}"

    @property
    def short_name(self) -> str:
        """`names@1`."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True)
class Refusal:
    """Something on disk that is not taken over, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Version:
    """What is known of a version's folder.

    Attributes:
        stamp: of the files that were last looked at.
        model: the last that was good; None if there was none.
        reason: why those files are refused; empty if they are not.
        attempts: how often they could not be judged, for want of time or memory.
        retry_at: when they are tried again unless they change, by the monotonic clock.
    """

    stamp: Stamp
    model: Model | None
    reason: str = ""
    attempts: int = 0
    retry_at: float = math.inf


def open_here(model: bytes) -> StepSession:
    """A session of a model's bytes in this process, on one thread of a CPU."""
    from serving.engine.opening import open_session  # onnxruntime takes time and memory

    return open_session(model, ON_CPU)


def load_version(
    folder: Path,
    open_session: Callable[[bytes], StepSession] = open_here,
    verify: Callable[[bytes], object] = check,
) -> Model:
    """A version from its folder.

    Args:
        folder: of the version.
        open_session: makes a session of the model's bytes; raises BadModel.
        verify: is given the model's bytes before anything else is; raises BadModel.

    Raises:
        BadModel: the version cannot be served; the text says why.
    """
    contents = read_verified(folder)
    verify(contents[MODEL])
    known = Known.parse(contents[KNOWN]) if KNOWN in contents else None
    session = open_session(contents[MODEL])
    name = folder.parent.name
    if session.manifest.name != name:
        raise BadModel(f"manifest: name is {quoted(session.manifest.name)}, the folder's '{name}'")
    digest = hashlib.sha256(contents[MODEL]).hexdigest()
    return Model(folder, name, int(folder.name), digest, session, known)


def stamp_of(folder: Path) -> Stamp:
    """What is another whenever a file of the folder was written: names, numbers, sizes, times.

    Times are only compared for being the same, so a clock that jumps does no harm.
    """
    with suppress(OSError):
        with os.scandir(folder) as found:
            every = [(entry.name, entry.stat()) for entry in islice(found, MAX_ENTRIES + 1)]
        return tuple(sorted((name, s.st_ino, s.st_size, s.st_ctime_ns) for name, s in every))
    return ()


def told(reason: str) -> str:
    """A reason as it is kept and logged: printable, and not too long."""
    return printable(reason[:MAX_REASON])


def accept(model: Model) -> None:
    """Nothing more is asked of a model than that it was loaded."""


class Repository:
    """The versions found in a folder. `load` reads it, again whenever it is called.

    Args:
        path: of the folder.
        default: what an empty name means; empty for the only model there is.
        max_rows: strings that each model will run at once, which it is tried out with in a process of its
            own before it is loaded; 0 does without that.
        open_session: makes a session of a model's bytes.

    Attributes:
        catalogue: what is served, once it was read.
        strays: folders whose names cannot be used, with what they must be named.
        under_way: the folder that is being loaded; None between two loads.
    """

    def __init__(
        self,
        path: Path,
        default: str = "",
        max_rows: int = 0,
        open_session: Callable[[bytes], StepSession] = open_here,
    ) -> None:
        self.path = path
        self.default = default
        self.open_session = open_session
        self.max_rows = max_rows
        self.catalogue = Catalogue({}, {}, default)
        self.strays: list[Refusal] = []
        self.under_way: Path | None = None
        self._versions: dict[Path, Version] = {}
        self._others: dict[Refusal, None] = {}
        self._is_reconsidering = False

    def reconsider(self) -> None:
        """Let the next `load` look again at versions that were refused; from any thread.

        Otherwise it does so only once their files were written anew. A machine that had no time or memory
        to try one out may have both now.
        """
        self._is_reconsidering = True

    @property
    def refusals(self) -> list[Refusal]:
        """What is refused of what is there now."""
        versions = self._versions.items()
        return [*(Refusal(p, v.reason) for p, v in versions if v.reason), *self._others]

    def leave_out(self, folder: Path, reason: str) -> None:
        """Refuse a version from now on, until its files change or `reconsider` is called."""
        self._versions[folder] = Version(stamp_of(folder), None, told(reason))

    def load(self, begin: Callable[[Model], object] = accept) -> None:
        """Load every version that is new or has changed; what is refused is in `refusals`.

        Args:
            begin: is given each of them before it is served; raising refuses it.

        Raises:
            NotFound: the folder is not there, or cannot be read.
            Unavailable: raised by `begin`, to end it all.
        """
        self.strays = []
        names = self._names()
        self._others = {}
        if self._is_reconsidering:
            self._is_reconsidering = False
            self._versions = {
                f: replace(v, stamp=()) if v.reason else v for f, v in self._versions.items()
            }
        with Verification(self.max_rows) as trial:
            verify = trial.verify if self.max_rows else check
            versions = {f: self._look(f, begin, verify) for f in self._folders(names)}
        self.under_way = None
        kept = self._irreplaceable(versions)
        catalogue = self._catalogue_of({**kept, **versions})
        meant = _default_of(self.catalogue)
        if meant and meant not in versions and not _default_of(catalogue):
            kept[meant] = self._versions[meant]
            catalogue = self._catalogue_of({**kept, **versions})
        for folder in kept:
            self._refuse(folder, "is gone, but served on: there is nothing to take its place")
        self._versions, self.catalogue = {**kept, **versions}, catalogue

    def _names(self) -> list[Path]:
        """The folders of models; raises NotFound."""
        try:
            return sorted(self._inside(self.path, MODELS))
        except (FileNotFoundError, NotADirectoryError):
            what = "is no folder of models; publish one with makemore export"
        except OSError as error:
            what = f"cannot be read: {error.strerror}"
        raise NotFound(f"{self.path} {what}")

    def _refuse(self, path: Path, reason: str) -> None:
        self._others[Refusal(path, told(reason))] = None

    def _folders(self, names: Iterable[Path]) -> Iterator[Path]:
        for name in names:
            try:
                yield from sorted(self._inside(name, VERSIONS), key=lambda p: int(p.name))
            except OSError as error:  # what was served of it before is served on
                self._refuse(name, f"cannot be read: {error.strerror}")
                yield from (folder for folder in self._versions if folder.parent == name)

    def _inside(self, folder: Path, level: Level) -> list[Path]:
        found = level.scan(folder)
        room = MAX_STRAYS - len(self.strays)
        self.strays += [Refusal(path, level.reason) for path in found.strays[:room]]
        return found.usable

    def _look(
        self,
        folder: Path,
        begin: Callable[[Model], object],
        verify: Callable[[bytes], object],
    ) -> Version:
        """What a folder holds now; nothing is read if it has not changed."""
        stamp, before = stamp_of(folder), self._versions.get(folder)
        is_same = before is not None and before.stamp == stamp
        if before is not None and is_same and time.monotonic() < before.retry_at:
            return before
        self.under_way, is_undecided = folder, False
        try:
            model = load_version(folder, self.open_session, verify)
            begin(model)
        except Unavailable:
            raise
        except BadModel as error:
            reason, is_undecided = str(error), isinstance(error, Undecided)
        except (OSError, MemoryError) as error:
            reason, is_undecided = f"cannot be loaded now: {type(error).__name__}: {error}", True
        except Exception as error:  # whatever one version holds, the others are served
            reason = f"cannot be loaded: {type(error).__name__}: {error}"
        else:
            return Version(stamp, model)
        refused = Version(stamp, before.model if before else None, told(reason))
        if not is_undecided:
            return refused
        attempts = before.attempts + 1 if before is not None and is_same else 1
        wait = min(RETRY * 2.0 ** min(attempts - 2, 16), MAX_RETRY) if attempts > 1 else 0.0
        return replace(
            refused,
            reason=f"{refused.reason}; it will be tried again",
            attempts=attempts,
            retry_at=time.monotonic() + wait,
        )

    def _irreplaceable(self, versions: Mapping[Path, Version]) -> dict[Path, Version]:
        """What is gone from disk but is served on.

        That is everything if nothing is left at all, as when a disk is taken away, and what was good of
        a model that has only bad versions now.
        """
        gone = {p: v for p, v in self._versions.items() if p not in versions and v.model}
        if not versions:
            return gone
        good = {folder.parent for folder, version in versions.items() if version.model}
        bad = {folder.parent for folder in versions} - good
        return {folder: version for folder, version in gone.items() if folder.parent in bad}

    def _catalogue_of(self, versions: Mapping[Path, Version]) -> Catalogue:
        models = [version.model for version in versions.values() if version.model]
        served: dict[str, set[int]] = {}
        for model in models:
            served.setdefault(model.name, set()).add(model.version)
        meanings = {name: self._aliases_of(name, its) for name, its in served.items()}
        return Catalogue.of(models, meanings, self.default)

    def _aliases_of(self, name: str, served: Set[int]) -> Aliases:
        """What the aliases of a model mean: what they did before, as long as the new is not served."""
        folder, before = self.path / name, self.catalogue.aliases.get(name, {})
        if not folder.is_dir():
            return before
        try:
            found = aliases.read(folder)
        except BadModel as error:
            self._refuse(folder, str(error))
            return before
        except (OSError, MemoryError) as error:
            self._refuse(folder, f"{aliases.FILE} cannot be read now: {error}")
            return before
        for alias, version in found.items():
            if version not in served:
                reason = f"{aliases.FILE}: '{alias}' means version {version}, which is not served"
                self._refuse(folder, reason)
                if before.get(alias) in served:
                    found[alias] = before[alias]
        return found


def _default_of(catalogue: Catalogue) -> Path | None:
    """The folder of the default that was asked for, if it is there."""
    with suppress(NotFound):
        return catalogue.find("").folder if catalogue.default else None
    return None
