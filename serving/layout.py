"""Layout of a repository, `<repository>/<name>/<version>/model.onnx`, and detection of misplaced folders."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from serving.catalogue import NAME, NAME_RULE, VERSION, VERSION_RULE
from serving.quoting import printable
from serving.sums import MODEL

CLUTTER = {"lost+found", "__pycache__", "__MACOSX", "@eaDir"}
"""Folders that operating systems and tools create, in addition to hidden ones."""
MAX_SEARCHED = 100
"""Maximum entries of a folder that are searched for models when the repository has none."""


@dataclass(frozen=True)
class Level:
    """A level of a repository and the rule for the names of its folders."""

    what: str
    pattern: re.Pattern[str]
    rule: str

    def scan(self, folder: Path) -> "Listing":
        """List the subfolders of a folder, by whether their names are valid; raises OSError."""
        usable: list[Path] = []
        strays: list[Path] = []
        for path in folder.iterdir():
            is_usable = self.pattern.fullmatch(path.name) is not None
            if (is_usable or not _is_clutter(path.name)) and path.is_dir():
                (usable if is_usable else strays).append(path)
        return Listing(usable, sorted(strays))

    @property
    def reason(self) -> str:
        """Why a folder with an invalid name is skipped."""
        return f"skipped: the folder of a {self.what} must be named with {self.rule}"


@dataclass(frozen=True)
class Listing:
    """The subfolders of a folder; the names of `strays` are invalid."""

    usable: list[Path]
    strays: list[Path]


MODELS = Level("model", NAME, NAME_RULE)
VERSIONS = Level("version", VERSION, VERSION_RULE)


def hint(repository: Path) -> str:
    """Describe how to fix a repository without models: the likely path, else the contents."""
    try:
        likely = _likely_repository(repository.resolve())
        names = sorted(p.name for p in islice(repository.iterdir(), MAX_SEARCHED))
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    if likely is not None:
        return f"the models are in {likely}: start with --repository {likely}"
    shown = [name for name in names if not _is_clutter(name)]
    if not shown:
        return "it is empty; publish a model with makemore export"
    more = ", ..." if len(shown) > 10 else ""
    return (
        f"it holds {printable(', '.join(shown[:10]))}{more}; a model is a file NAME/VERSION/{MODEL}, "
        f"such as names/1/{MODEL}"
    )


def _likely_repository(path: Path) -> Path | None:
    """Return the repository that a path one or two levels too deep, or one too shallow, probably means."""
    if VERSION.fullmatch(path.name) and (path / MODEL).exists():
        return path.parent.parent
    if _has_version(path):
        return path.parent
    for child in islice(_subfolders(path), MAX_SEARCHED):
        if any(map(_has_version, islice(_subfolders(child), MAX_SEARCHED))):
            return child
    return None


def _has_version(folder: Path) -> bool:
    versions = islice(_subfolders(folder), MAX_SEARCHED)
    return any(VERSION.fullmatch(p.name) and (p / MODEL).exists() for p in versions)


def _subfolders(folder: Path) -> Iterable[Path]:
    try:
        return sorted(p for p in islice(folder.iterdir(), MAX_SEARCHED) if p.is_dir())
    except OSError:  # such as one without permission
        return ()


def _is_clutter(name: str) -> bool:
    return name.startswith(".") or name in CLUTTER
