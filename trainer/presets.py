"""Recipes: an architecture with settings that were found to go together."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Preset:
    """An architecture, and what of its knobs and of training differs from their defaults."""

    summary: str
    architecture: str
    model: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)


PRESETS = {
    "fast": Preset(
        "good names in a quarter of a minute on one thread",
        "gru",
        {"layers": 2, "hidden": 128, "embedding": 64, "dropout": 0.1, "weight_dropout": 0.0},
        {
            "optimizer": "muon",
            "steps": 450,
            "learning_rate": 0.02,
            "warmup": 20,
            "average": 0.96,
            "evaluate_every": 50,
            "sample_every": 0,
        },
    ),
}
