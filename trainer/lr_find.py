"""The learning-rate sweep: a rate that grows at every step, and where the loss falls fastest.

Smith 2017 (arXiv:1506.01186).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from trainer.config import RunConfig
from trainer.data.batches import Batches, Part
from trainer.training import Training

LOWEST, HIGHEST = 1e-5, 1.0
SMOOTHING = 0.95
BURST = 1.5
"""The sweep ends when the smoothed loss is this many times its best."""


@dataclass(frozen=True)
class Sweep:
    """Rates and the smoothed loss at each."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]


def sweep(config: RunConfig, train: Part, steps: int) -> Sweep:
    """Train from the first weights with rates from 0.00001 to 1, each step's a little higher."""
    rates = np.geomspace(LOWEST, HIGHEST, steps).tolist()
    settings = replace(config.training, warmup=0, schedule="constant", steps=steps)
    training = Training(config.build_model(), settings)
    batches = Batches(train, settings.batch_size, settings.seed, settings.pool)
    smoothed: list[float] = []
    mean = 0.0
    for i, rate in enumerate(rates):
        training.config = replace(settings, learning_rate=rate)
        mean = SMOOTHING * mean + (1 - SMOOTHING) * float(training.update(*batches[i]))
        smoothed.append(mean / (1 - SMOOTHING ** (i + 1)))
        if not smoothed[-1] <= BURST * min(smoothed):
            break
    return Sweep(tuple(rates[: len(smoothed)]), tuple(smoothed))


def propose(rates: Sequence[float], losses: Sequence[float]) -> float:
    """A third of the rate at which the loss is least: fast, and clear of where it bursts."""
    return rates[int(np.argmin(losses))] / 3
