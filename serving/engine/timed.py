"""A model whose steps are timed, as cheaply as that goes."""

from time import perf_counter

import numpy as np
import numpy.typing as npt

from serving.engine.session import States, StepSession

SPANS = 24
"""Ranges of duration: the one numbered k has the steps of less than 2^k microseconds."""


class TimedSession:
    """Steps a session; see StepSession. Used by one thread, read by any.

    Attributes:
        rows: that were stepped.
        seconds: that it took.
        spans: how many steps took less than 2^k microseconds, but not less than half of it, for each k.
    """

    def __init__(self, session: StepSession) -> None:
        self.manifest = session.manifest
        self._session = session
        self.rows = 0
        self.seconds = 0.0
        self.spans = [0] * SPANS

    def step(
        self, token: npt.NDArray[np.int64], states: States
    ) -> tuple[npt.NDArray[np.float32], States]:
        """See StepSession; not timed, since it is not used for serving."""
        return self._session.step(token, states)

    def advance(
        self, token: npt.NDArray[np.int64], states: States
    ) -> tuple[npt.NDArray[np.float32], States]:
        """See StepSession."""
        begun = perf_counter()
        after = self._session.advance(token, states)
        seconds = perf_counter() - begun
        self.rows += len(token)
        self.seconds += seconds
        self.spans[min(int(seconds * 1e6).bit_length(), SPANS - 1)] += 1
        return after
