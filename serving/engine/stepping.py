"""What the engine needs of a model: steps, wherever they are computed."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from serving.manifest import Manifest, StateSpec

Array = npt.NDArray[Any]
States = tuple[Array, ...]

FEWEST = 2
"""Rows that a step has: kernels may round differently for a single one (`RNN` does)."""


class StepSession(Protocol):
    """What the engine needs of a model; `serving.testing` has one without onnxruntime.

    Attributes:
        manifest: what the model says of itself.
        arithmetic: names what decides the last bits of what it computes.
    """

    manifest: Manifest
    arithmetic: str

    def step(
        self, token: npt.NDArray[np.int64], states: States
    ) -> tuple[npt.NDArray[np.float32], States]:
        """Advance every row by one character.

        Args:
            token: the character just seen, [B]; B at least 1.
            states: one array a state in the manifest's order, [B, ...] each; not changed.

        Returns:
            Raw logits of the next character [B, V], and the states after it.
        """

    def advance(
        self, token: npt.NDArray[np.int64], states: States
    ) -> tuple[npt.NDArray[np.float32], States]:
        """As `step`, but faster where it may write into `states`, which are not to be used after it.

        What it returns is to be used before the next call, or given to it.
        """


def initial_states(specs: Sequence[StateSpec], rows: int) -> States:
    """States before the first character: zeros, [rows, ...] each."""
    return tuple(np.zeros((rows, *spec.shape), spec.dtype) for spec in specs)
