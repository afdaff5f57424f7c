"""A row that takes its steps by itself."""

import numpy as np

from serving.engine.sampling import Float32
from serving.engine.stepping import States, StepSession


class Alone:
    """Its states, [1, ...] each.

    Attributes:
        token: what its next step is for, [1].
        states: after those that it has seen.
    """

    def __init__(self, session: StepSession) -> None:
        self._session = session
        self.token = np.zeros(1, np.int64)
        self.states: States = ()

    def step(self) -> Float32:
        """Let it see its token; the logits after it, [1, V]."""
        logits, self.states = self._session.advance(self.token, self.states)
        return logits
