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
        "good names in half a minute on one thread",
        "gru",
        {"layers": 2, "hidden": 128, "embedding": 64, "dropout": 0.1, "weight_dropout": 0.0},
        {
            "steps": 700,
            "learning_rate": 0.012,
            "warmup": 40,
            "average": 0.98,
            "evaluate_every": 50,
            "sample_every": 0,
        },
    ),
}
