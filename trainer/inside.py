"""Gathers from a run what its report shows: activations, gradients, updates, samples."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from serving.engine.sampling import SamplingParameters
from trainer import preview
from trainer.data.batches import IGNORED, Batches, Part
from trainer.data.dataset import Dataset
from trainer.diagnostics import Floats, log_ratio
from trainer.evaluate import Score, evaluate
from trainer.models.base import CharModel
from trainer.run import Run

BATCH = 256
SAMPLES = 1000


@dataclass(frozen=True)
class Inside:
    """All that a report is drawn from.

    Attributes:
        metrics, updates: the rows of the run's files.
        scores: of the parts that have strings.
        activations: of one batch, by layer: [N, units].
        gradients: of one batch, by matrix.
        embedding: the characters' vectors [V, E], if there are any.
        bigram: counts of character pairs in train, [V, V].
        samples: strings that the model made.
        marks: for each whether it is in train, dev or test, or new.
    """

    run: Run
    dataset: Dataset
    metrics: list[dict[str, Any]]
    updates: list[dict[str, Any]]
    scores: Mapping[str, Score]
    activations: Mapping[str, Floats]
    gradients: Mapping[str, Floats]
    embedding: Floats | None
    bigram: "np.ndarray[Any, np.dtype[np.int64]]"
    samples: list[str]
    marks: list[str]

    @property
    def first_loss(self) -> float | None:
        """The loss of the first batch, before any update; None where nothing was watched."""
        return self.updates[0]["batch_loss"] if self.updates else None

    def update_ratios(self) -> dict[str, list[tuple[int, float]]]:
        """For each matrix the steps, and log10 of its update-to-data ratio there."""
        return self._ratios("update")

    def gradient_ratios(self) -> dict[str, list[tuple[int, float]]]:
        """Likewise of its gradient-to-data ratio."""
        return self._ratios("gradient")

    def _ratios(self, what: str) -> dict[str, list[tuple[int, float]]]:
        found: dict[str, list[tuple[int, float]]] = {}
        for row in self.updates:
            for name, seen in row["matrices"].items():
                point = row["step"], log_ratio(seen[what], seen["data"])
                if math.isfinite(point[1]):
                    found.setdefault(name, []).append(point)
        return found

    def typical_updates(self) -> dict[str, float]:
        """For each matrix the middle one of its update-to-data ratios, in log10."""
        ratios = self.update_ratios()
        return {n: float(np.median([r for _, r in points])) for n, points in ratios.items()}


def look_inside(run: Run) -> Inside:
    """Gather it all; takes some seconds."""
    dataset, model = run.dataset(), run.load_model()
    parts = {name: Part(s, run.config.vocabulary) for name, s in dataset.parts.items() if s}
    batch = Batches(parts["train"], min(BATCH, len(parts["train"])), run.config.training.seed)[0]
    samples = preview.draw(model, run.config, SAMPLES, SamplingParameters(seed=1))
    return Inside(
        run=run,
        dataset=dataset,
        metrics=run.rows(run.metrics),
        updates=run.rows(run.updates),
        scores={name: evaluate(model, part) for name, part in parts.items()},
        activations=_activations(model, batch[0]),
        gradients=_gradients(model, *batch),
        embedding=_embedding(model),
        bigram=_bigram(parts["train"]),
        samples=samples,
        marks=[preview.mark(text, dataset) for text in samples],
    )


@torch.no_grad()
def _activations(model: CharModel, tokens: torch.Tensor) -> dict[str, Floats]:
    return {name: _array(values) for name, values in model.activations(tokens).items()}


def _gradients(model: CharModel, tokens: torch.Tensor, targets: torch.Tensor) -> dict[str, Floats]:
    if model.counted:
        return {}
    model.zero_grad()
    logits = model(tokens).flatten(0, 1)  # [B*T, V]
    F.cross_entropy(logits, targets.flatten(), ignore_index=IGNORED).backward()
    return {
        name: _array(parameter.grad)
        for name, parameter in model.named_parameters()
        if parameter.dim() > 1 and parameter.grad is not None
    }


def _embedding(model: CharModel) -> Floats | None:
    table = getattr(model, "embedding", None)
    return _array(table.weight) if isinstance(table, torch.nn.Embedding) else None


def _bigram(train: Part) -> "np.ndarray[Any, np.dtype[np.int64]]":
    size = train.vocabulary_size
    before, after = train.pairs
    counts = torch.bincount(before * size + after, minlength=size * size)
    found: np.ndarray[Any, np.dtype[np.int64]] = counts.view(size, size).numpy()
    return found


def _array(tensor: torch.Tensor) -> Floats:
    found: Floats = tensor.detach().float().numpy()
    return found
