"""How likely a model finds the held-out strings of each length: what Score's percentiles are read from."""

import numpy as np

from serving.engine.sampling import Float64, Int64
from serving.percentiles import QUANTILES, HeldOut
from trainer.data.batches import Part
from trainer.evaluate import string_nlls
from trainer.models.base import CharModel

ENOUGH = 200
"""Strings that a row of quantiles is taken from, the nearest in length where there are more."""


def held_out(model: CharModel, parts: dict[str, Part]) -> HeldOut | None:
    """The table of the dev and test parts, a row a length that they have; None if they are empty."""
    chosen = [parts[name] for name in ("dev", "test") if len(parts.get(name, ()))]
    if not chosen:
        return None
    lengths = np.concatenate([np.sort(part.lengths.cpu().numpy()) - 1 for part in chosen])
    log_probs = -np.concatenate([string_nlls(model, part) for part in chosen])
    return table(lengths, log_probs)


def table(lengths: Int64, log_probs: Float64) -> HeldOut:
    """Quantiles for each length that occurs, from it and as many like it as it takes to be enough."""
    rows, found = [], np.unique(lengths)
    for length in found:
        distance = np.abs(lengths - length)
        order = np.sort(distance)
        near = distance <= order[min(ENOUGH, len(order)) - 1]
        levels = np.linspace(0, 1, QUANTILES)
        quantiles = np.quantile(log_probs[near], levels)
        rows.append(np.maximum.accumulate(quantiles).tolist())  # whatever rounding makes of equals
    return HeldOut(found.tolist(), rows)
