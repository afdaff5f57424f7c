"""How long a model's steps take, counted as cheaply as that goes."""

from collections.abc import Callable
from time import perf_counter

import numpy as np
import numpy.typing as npt

from serving.engine.stepping import States, StepSession

Step = Callable[[npt.NDArray[np.int64], States], tuple[npt.NDArray[np.float32], States]]

SPANS = 24
"""Ranges of duration: the one numbered k has the steps of less than 2^k microseconds."""


class StepClock:
    """The durations of steps. Written by one thread, read by any.

    Attributes:
        rows: that were stepped.
        seconds: that it took.
        spans: how many steps took less than 2^k microseconds, but not less than half of it, for each k.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.seconds = 0.0
        self.spans = [0] * SPANS

    def note(self, rows: int, seconds: float) -> None:
        """A step has been taken."""
        self.rows += rows
        self.seconds += seconds
        self.spans[min(int(seconds * 1e6).bit_length(), SPANS - 1)] += 1


class TimedSession:
    """A session whose steps are timed; see StepSession."""

    def __init__(self, session: StepSession, clock: StepClock) -> None:
        self.manifest = session.manifest
        self.arithmetic = session.arithmetic
        self.step, self.advance = (_timed(take, clock) for take in (session.step, session.advance))


def _timed(take: Step, clock: StepClock) -> Step:
    def timed(
        token: npt.NDArray[np.int64], states: States
    ) -> tuple[npt.NDArray[np.float32], States]:
        begun = perf_counter()
        after = take(token, states)
        clock.note(len(token), perf_counter() - begun)
        return after

    return timed
