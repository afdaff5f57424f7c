"""A run's folder: configuration, data, checkpoints, metrics.

config.json      the resolved configuration
data/            the strings of train, dev and test
last.pt          everything that resuming needs
best.pt          the weights with the best dev NLL so far
metrics.jsonl    one JSON object an evaluation
updates.jsonl    one JSON object a look at an update
"""

import io
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from trainer import files
from trainer.config import FORMAT, RunConfig
from trainer.data.dataset import Dataset, restore, save
from trainer.errors import RunError
from trainer.models.base import CharModel


@dataclass(frozen=True)
class Progress:
    """Steps taken, the step whose weights are the best, seconds of training."""

    steps: int
    best_step: int
    seconds: float


OWN = {
    "config.json",
    "data",
    "last.pt",
    "best.pt",
    "metrics.jsonl",
    "updates.jsonl",
    "report.html",
    "tensorboard",
}


class Run:
    """One run on disk. Building it touches nothing; `create` and `open` do."""

    def __init__(self, path: Path, config: RunConfig) -> None:
        self.path = path
        self.config = config
        self.last = path / "last.pt"
        self.best = path / "best.pt"
        self.metrics = path / "metrics.jsonl"
        self.updates = path / "updates.jsonl"

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.absolute().name

    @classmethod
    def create(cls, path: Path, config: RunConfig, dataset: Dataset, overwrite: bool) -> "Run":
        """A new run's folder with its configuration and data.

        The configuration is written last: without one, the folder is no run yet, and is made anew.

        Raises:
            RunError: there is a run already and `overwrite` is not given, the folder has other things
                in it, or it cannot be written.
        """
        with files.naming_failures(path):
            _make_room(path, overwrite)
        save(dataset, path / "data")
        run = cls(path, config)
        run._write_config()
        return run

    @classmethod
    def open(cls, path: Path) -> "Run":
        """A run that is there; raises RunError."""
        try:
            value = json.loads((path / "config.json").read_text(encoding="utf-8"))
            return cls(path, RunConfig.from_dict(value))
        except (FileNotFoundError, NotADirectoryError):
            raise RunError(f"{path} holds no run; train one with --run {path}") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunError(f"{path / 'config.json'} cannot be read: {error}") from None
        except RunError as error:
            raise RunError(f"{path / 'config.json'}: {error}") from None

    def _write_config(self) -> None:
        text = json.dumps(self.config.to_dict(), indent=2, ensure_ascii=False)
        files.write_text(self.path / "config.json", text + "\n")

    def lengthen(self, steps: int) -> None:
        """Let a resumed training go on to a larger number of steps, with its patience restored."""
        last = self.load(self.last, self.config.build_model())
        self.save(self.last, {**last, "stale": 0})
        training = replace(self.config.training, steps=steps)
        self.config = replace(self.config, training=training)
        self._write_config()

    def dataset(self) -> Dataset:
        """The strings that the run was made with."""
        return restore(self.path / "data", self.config.dataset)

    def load_model(self) -> CharModel:
        """The best weights so far, or the last ones of a run that was cut before it was evaluated."""
        path = self.best if self.best.exists() else self.last
        model = self.config.build_model()
        model.load_state_dict(self.load(path, model)["averaged"])
        return model.eval()

    def progress(self) -> Progress:
        """How far training has come, and at which step the weights of `load_model` were taken."""
        model = self.config.build_model()
        last = self.load(self.last, model)
        best = self.load(self.best, model) if self.best.exists() else last
        return Progress(last["step"], best["step"], last["seconds"])

    def save(self, path: Path, content: Mapping[str, Any]) -> None:
        """Write a checkpoint beside, flush it, and rename it to `path`."""
        mark = {
            "format": FORMAT,
            "architecture": self.config.architecture,
            "alphabet": list(self.config.alphabet),
        }
        buffer = io.BytesIO()  # torch hides why a file could not be written
        torch.save({**mark, **content}, buffer)
        files.write_atomically(path, lambda file: file.write(buffer.getbuffer()))

    def load(self, path: Path, model: CharModel) -> dict[str, Any]:
        """A checkpoint of this run; raises RunError if it is not one, or is damaged."""
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            raise RunError(f"{path.parent} has no {path.name} yet: nothing was trained") from None
        except Exception as error:  # zip, pickle and tensor errors alike
            raise RunError(f"{path} is damaged or no checkpoint: {error}") from None
        self._check(path, content, model)
        found: dict[str, Any] = content
        return found

    def _check(self, path: Path, content: object, model: CharModel) -> None:
        needed = {"averaged", "step"} | ({"model", "optimizer"} if path == self.last else set())
        if not isinstance(content, dict) or not needed <= content.keys():
            raise RunError(f"{path} is no checkpoint of this program, or not one of its kind")
        if content.get("format") != FORMAT:
            raise RunError(
                f"{path} has the format {content.get('format')}, not {FORMAT}, which this version reads"
            )
        if content.get("architecture") != self.config.architecture:
            raise RunError(
                f"{path} is of the architecture '{content.get('architecture')}', "
                f"the run of '{self.config.architecture}'"
            )
        if content.get("alphabet") != list(self.config.alphabet):
            raise RunError(f"{path} has another alphabet than the run")
        expected = {name: value.shape for name, value in model.state_dict().items()}
        if {name: value.shape for name, value in content["averaged"].items()} != expected:
            raise RunError(f"{path} has weights of other names or shapes than the run's model")

    def append(self, path: Path, row: Mapping[str, Any]) -> None:
        """Add a line to metrics.jsonl or updates.jsonl."""
        with files.naming_failures(path), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def rows(self, path: Path) -> list[dict[str, Any]]:
        """The rows of such a file, but for a last line that was cut."""
        rows = []
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
        return rows

    def rewind(self, step: int) -> None:
        """Drop the rows after a step, which a resumed run will write again, and half-written files."""
        for path in self.path.iterdir():
            if files.is_part(path.name):
                path.unlink(missing_ok=True)
        for path in (self.metrics, self.updates):
            rows = [row for row in self.rows(path) if row["step"] <= step]
            files.write_text(path, "".join(json.dumps(row) + "\n" for row in rows))


def _make_room(path: Path, overwrite: bool) -> None:
    """Take away a run that is to be replaced, or one whose making was cut; nothing else."""
    if not path.exists():
        return
    if not path.is_dir():
        raise RunError(f"{path} is a file; choose another --run")
    if (path / "config.json").exists():
        Run.open(path)  # refuses what is no run
        if not overwrite:
            raise RunError(
                f"{path} already holds a run: continue it with --resume, replace it with "
                "--overwrite, or choose another --run"
            )
    entries = {entry.name: entry for entry in path.iterdir()}
    if foreign := {name for name in entries if name not in OWN and not files.is_part(name)}:
        raise RunError(
            f"{path} holds other things than a run ({sorted(foreign)[0]}); choose another --run"
        )
    # The configuration first: without it, what is left is no run.
    for name in sorted(entries, key=lambda name: name != "config.json"):
        if entries[name].is_dir():
            shutil.rmtree(entries[name])
        else:
            entries[name].unlink()
