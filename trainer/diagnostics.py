"""What a trained network looks like inside: statistics as plain functions of arrays.

Draws nothing and knows no architecture; `trainer.plots` draws, `trainer.inside` gathers.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]

SATURATED = 0.97
"""A tanh or sigmoid beyond this passes hardly any gradient: at 0.97 a tanh passes 6 %."""

FIRST_LOSS_TOLERANCE = 0.05
HEALTHY_UPDATE = (-4.0, -2.0)
"""Where log10 of the update-to-data ratio should be: about -3."""


@dataclass(frozen=True)
class LayerStatistics:
    """One layer's activations over a batch.

    Attributes:
        mean, deviation: over all of them.
        saturated: the share beyond 0.97 in absolute value.
        dead: the share of units that are saturated for every example, and so learn nothing.
    """

    mean: float
    deviation: float
    saturated: float
    dead: float


def saturation(values: Floats) -> npt.NDArray[np.bool_]:
    """Which activations [N, units] are saturated; none, where they are not bounded by 1."""
    if np.abs(values).max() > 1:
        return np.zeros(values.shape, np.bool_)
    found: npt.NDArray[np.bool_] = np.abs(values) > SATURATED
    return found


def layer_statistics(values: Floats) -> LayerStatistics:
    """Statistics of activations [N, units]."""
    is_saturated = saturation(values)
    return LayerStatistics(
        mean=float(values.mean()),
        deviation=float(values.std()),
        saturated=float(is_saturated.mean()),
        dead=float(is_saturated.all(axis=0).mean()),
    )


def log_ratio(numerator: float, denominator: float) -> float:
    """Log10 of a ratio of deviations; -inf where the numerator is 0, nan where the denominator is."""
    if denominator == 0:
        return math.nan
    return math.log10(numerator / denominator) if numerator > 0 else -math.inf


def principal_plane(vectors: Floats) -> Floats:
    """Vectors [N, E] projected on the two directions in which they differ most: [N, 2] (Pearson 1901)."""
    centred = vectors - vectors.mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    plane = np.zeros((2, vectors.shape[1]))
    plane[: min(2, len(directions))] = directions[:2]
    projected: Floats = centred @ plane.T
    return projected


def length_shares(strings: Sequence[str]) -> dict[int, float]:
    """The share of strings of each length, from 0 to the longest."""
    counts = Counter(map(len, strings))
    return {n: counts[n] / max(1, len(strings)) for n in range(max(counts, default=0) + 1)}


def letter_shares(strings: Sequence[str]) -> dict[str, float]:
    """The share of each character among all."""
    counts = Counter("".join(strings))
    total = max(1, sum(counts.values()))
    return {character: count / total for character, count in sorted(counts.items())}


def distance(ours: Mapping[Any, float], theirs: Mapping[Any, float]) -> float:
    """The total variation between two distributions: 0 for the same, 1 for nothing in common."""
    keys = ours.keys() | theirs.keys()
    return 0.5 * sum(abs(ours.get(key, 0.0) - theirs.get(key, 0.0)) for key in keys)


def flags(
    first_loss: float | None,
    vocabulary_size: int,
    layers: Mapping[str, LayerStatistics],
    updates: Mapping[str, float],
    train_nll: float,
    dev_nll: float,
) -> list[str]:
    """What is miscalibrated, in words for someone who learns.

    Args:
        first_loss: of the first batch, before any update.
        vocabulary_size: V.
        layers: statistics of each layer's activations.
        updates: for each matrix log10 of its update-to-data ratio, in the middle of the training.
        train_nll: of the weights that were kept.
        dev_nll: likewise.
    """
    found = []
    expected = math.log(vocabulary_size)
    if first_loss is not None and abs(first_loss / expected - 1) > FIRST_LOSS_TOLERANCE:
        found.append(
            f"The first loss was {first_loss:.2f}; a network that knows nothing should guess evenly, which "
            f"costs ln {vocabulary_size} = {expected:.2f}. It began confidently wrong: scale the last "
            "layer's first weights down."
        )
    for name, layer in layers.items():
        if layer.dead > 0:
            found.append(
                f"{layer.dead:.0%} of the units of {name} are saturated for every example: they pass no "
                "gradient and learn nothing. The weights before them started too large, or the rate is "
                "too high."
            )
        elif layer.saturated > 0.3:
            found.append(
                f"{layer.saturated:.0%} of the activations of {name} are saturated; gradients are "
                "squeezed there. Smaller first weights, or a normalisation, would help."
            )
    for name, ratio in updates.items():
        if not HEALTHY_UPDATE[0] <= ratio <= HEALTHY_UPDATE[1]:
            word = "fast: lower" if ratio > HEALTHY_UPDATE[1] else "slowly: raise"
            found.append(
                f"{name} moved by 10^{ratio:.1f} of its size a step, where about 10^-3 is healthy: it "
                f"learns too {word} the rate, or mind its scale."
            )
    if dev_nll - train_nll > 0.25:
        found.append(
            f"Held-out strings cost {dev_nll - train_nll:.2f} nats a character more than trained ones: the "
            "network has begun to learn its data by heart. More dropout, or fewer weights, would help."
        )
    return found
