"""Folders of a repository: `<repository>/<name>/<version>/model.onnx`, and folders that are none of them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from serving.catalogue import NAME, NAME_RULE, VERSION, VERSION_RULE
from serving.quoting import printable
from serving.sums import MODEL

CLUTTER = {"lost+found", "__pycache__", "__MACOSX", "@eaDir"}
"""Folders that systems make by themselves, besides hidden ones."""
MAX_SEARCHED = 100
"""Folders that are looked into for models when there are none where they should be."""


@dataclass(frozen=True)
class Level:
    """What the folders on one level of a repository must be called."""

    what: str
    pattern: re.Pattern[str]
    rule: str

    def look(self, folder: Path) -> "Listing":
        """The folders in a folder, by whether their names can be used; raises OSError."""
        usable: list[Path] = []
        strays: list[Path] = []
        for path in folder.iterdir():
            is_usable = self.pattern.fullmatch(path.name) is not None
            if (is_usable or not _is_clutter(path.name)) and path.is_dir():
                (usable if is_usable else strays).append(path)
        return Listing(usable, sorted(strays))

    @property
    def reason(self) -> str:
        """Why another folder is skipped."""
        return f"skipped: the folder of a {self.what} must be named with {self.rule}"


@dataclass(frozen=True)
class Listing:
    """The folders in a folder; `strays` are those whose names cannot be used."""

    usable: list[Path]
    strays: list[Path]


MODELS = Level("model", NAME, NAME_RULE)
VERSIONS = Level("version", VERSION, VERSION_RULE)


def hint(repository: Path) -> str:
    """What to do about a repository without models: where they are, else what it holds."""
    try:
        likely = _likely(repository.resolve())
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


def _likely(path: Path) -> Path | None:
    """The repository that was meant by a path one or two levels too deep, or one too shallow."""
    if VERSION.fullmatch(path.name) and (path / MODEL).exists():
        return path.parent.parent
    if _has_version(path):
        return path.parent
    for child in islice(_folders(path), MAX_SEARCHED):
        if any(map(_has_version, islice(_folders(child), MAX_SEARCHED))):
            return child
    return None


def _has_version(folder: Path) -> bool:
    versions = islice(_folders(folder), MAX_SEARCHED)
    return any(VERSION.fullmatch(p.name) and (p / MODEL).exists() for p in versions)


def _folders(folder: Path) -> Iterable[Path]:
    try:
        return sorted(p for p in islice(folder.iterdir(), MAX_SEARCHED) if p.is_dir())
    except OSError:  # one that may not be looked into
        return ()


def _is_clutter(name: str) -> bool:
    return name.startswith(".") or name in CLUTTER
