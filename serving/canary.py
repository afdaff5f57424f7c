"""A model tried out with as many rows as it will ever have, before anyone is served by it.

B is the number of rows, V the vocabulary.
"""

import numpy as np
import numpy.typing as npt

from serving.engine.stepping import StepSession, initial_states
from serving.errors import BadModel

STEPS = 2
TOLERANCE = 1e-3
"""How far a row's logits may differ among other rows: kernels for more rows round differently."""


def try_out(session: StepSession, rows: int) -> None:
    """Take some steps with `rows` rows, and again with two of them.

    Raises:
        BadModel: a logit is no number, a shape is not what it should be, or a row depends on others.
    """
    many, few = run(session, rows), run(session, min(rows, 2))
    if not np.allclose(many[:, : few.shape[1]], few, atol=TOLERANCE, rtol=TOLERANCE):
        raise BadModel("a string's logits depend on the strings beside it")


def run(session: StepSession, rows: int) -> npt.NDArray[np.float32]:
    """The logits of each step, [STEPS, B, V]; each row has tokens of its own."""
    states, found = initial_states(session.manifest.states, rows), []
    size = len(session.manifest.vocabulary)
    for step in range(STEPS):
        token = (step + np.arange(rows, dtype=np.int64)) % size  # [B]
        logits, states = session.step(token, states)
        if logits.shape != (rows, size) or not np.isfinite(logits.max(axis=1)).all():
            raise BadModel(f"the logits are no numbers of the shape {(rows, size)}")
        for spec, state in zip(session.manifest.states, states, strict=True):
            if state.shape != (rows, *spec.shape) or state.dtype != spec.dtype:
                raise BadModel(f"state '{spec.name}' is {state.dtype} {state.shape} after a step")
        found.append(logits)
    return np.stack(found)
