"""How the learning rate goes over a training: a function of the share of steps that is done."""

import math
from collections.abc import Callable

FINAL = 0.01
"""The last rate of the schedules that fall, as a share of the peak."""


def cosine(done: float) -> float:
    """Along half a cosine (Loshchilov and Hutter 2016, arXiv:1608.03983)."""
    return FINAL + (1 - FINAL) * 0.5 * (1 + math.cos(math.pi * done))


def linear(done: float) -> float:
    """Along a straight line."""
    return 1 - (1 - FINAL) * done


def step(done: float) -> float:
    """The peak for the first two thirds, then a tenth of it."""
    return 1.0 if done < 2 / 3 else 0.1


def constant(done: float) -> float:
    """The peak throughout."""
    return 1.0


SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": cosine,
    "linear": linear,
    "step": step,
    "constant": constant,
}


def learning_rate(i: int, steps: int, warmup: int, peak: float, schedule: str) -> float:
    """The rate of step `i`, counted from 0: a linear rise over `warmup` steps, then the schedule."""
    if i < warmup:
        return peak * (i + 1) / warmup
    return peak * SCHEDULES[schedule]((i - warmup) / max(1, steps - warmup))
