"""A run's folder: configuration, data, checkpoints, metrics.

config.json      the resolved configuration
data/            the strings of train, dev and test
last.pt          everything that resuming needs
best.pt          the weights with the best dev NLL so far
metrics.jsonl    one JSON object an evaluation
updates.jsonl    one JSON object a look at an update
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from trainer import files
from trainer.config import RunConfig
from trainer.data.dataset import Dataset, restore, save
from trainer.errors import RunError
from trainer.models.base import CharModel


class Run:
    """One run on disk. Building it touches nothing; `create` and `open` do."""

    def __init__(self, path: Path, config: RunConfig) -> None:
        self.path = path
        self.config = config
        self.last = path / "last.pt"
        self.best = path / "best.pt"
        self.metrics = path / "metrics.jsonl"
        self.updates = path / "updates.jsonl"

    @classmethod
    def create(cls, path: Path, config: RunConfig, dataset: Dataset, overwrite: bool) -> "Run":
        """A new run's folder with its configuration and data.

        Raises:
            RunError: there is a run already and `overwrite` is not given, or it cannot be written.
        """
        with files.naming_failures(path):
            if path.exists() and (not path.is_dir() or any(path.iterdir())):
                if not (path / "config.json").is_file():
                    raise RunError(f"{path} exists and is no run; choose another --run")
                if not overwrite:
                    raise RunError(
                        f"{path} already holds a run: continue it with --resume, replace it with "
                        "--overwrite, or choose another --run"
                    )
                shutil.rmtree(path)
        save(dataset, path / "data")
        run = cls(path, config)
        text = json.dumps(config.to_dict(), indent=2, ensure_ascii=False)
        files.write_text(path / "config.json", text + "\n")
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

    def dataset(self) -> Dataset:
        """The strings that the run was made with."""
        return restore(self.path / "data", self.config.dataset)

    def load_model(self) -> CharModel:
        """The best weights so far, or the last ones of a run that was cut before it was evaluated."""
        path = self.best if self.best.exists() else self.last
        model = self.config.build_model()
        model.load_state_dict(self.load(path, model)["averaged"])
        return model.eval()

    def save(self, path: Path, content: Mapping[str, Any]) -> None:
        """Write a checkpoint beside, flush it, and rename it to `path`."""
        mark = {"architecture": self.config.architecture, "alphabet": list(self.config.alphabet)}
        files.write_atomically(path, lambda file: torch.save({**mark, **content}, file))

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
        if not isinstance(content, dict) or "averaged" not in content:
            raise RunError(f"{path} is no checkpoint of this program")
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
        """Drop the rows after a step, which a resumed run will write again."""
        for path in (self.metrics, self.updates):
            rows = [row for row in self.rows(path) if row["step"] <= step]
            files.write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
