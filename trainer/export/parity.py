"""The gate: the graph that will be served against the model that was trained.

Every string of the dev part is scored in PyTorch's parallel forward, in PyTorch step by step, and in
onnxruntime step by step at several batch sizes. Strings take a row as soon as one is free, so that rows
are at different positions and a row's leftover state would show.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from serving.engine.stepping import StepSession, initial_states
from serving.vocabulary import BOUNDARY
from trainer.data.batches import Part
from trainer.errors import ExportRefused
from trainer.models.base import CharModel

BATCH_SIZES = (1, 2, 7, 64)
TOLERANCE = 1e-4

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Difference:
    """The largest absolute differences seen."""

    logits: float = 0.0
    log_probability: float = 0.0

    def __or__(self, other: "Difference") -> "Difference":
        # max() would let a NaN pass, whichever side it stands on
        return Difference(
            float(np.maximum(self.logits, other.logits)),
            float(np.maximum(self.log_probability, other.log_probability)),
        )

    @property
    def is_acceptable(self) -> bool:
        """Within the tolerance; a NaN never is."""
        return self.log_probability <= TOLERANCE


def check_parity(
    model: CharModel, sessions: dict[str, tuple[StepSession, Sequence[int]]], part: Part
) -> dict[str, Any]:
    """Compare sessions with the model's forward over a whole part.

    Args:
        model: the truth.
        sessions: by name, a session and the batch sizes to step it at.
        part: the strings.

    Returns:
        The manifest's `parity` object.

    Raises:
        ExportRefused: a log-probability differs by more than the tolerance.
    """
    worst = {name: Difference() for name in sessions}
    for encoded, expected in _chunks(model, part):
        for name, (session, batch_sizes) in sessions.items():
            for rows in batch_sizes:
                worst[name] |= _compare(expected, score_stepwise(session, encoded, rows))
                if not worst[name].is_acceptable:
                    raise ExportRefused(_refusal(name, rows, worst[name]))
    combined = Difference()
    for difference in worst.values():
        combined |= difference
    return {
        "max_abs_logit": combined.logits,
        "max_abs_log_probability": combined.log_probability,
        "tolerance": TOLERANCE,
        "batch_sizes": sorted({rows for _, sizes in sessions.values() for rows in sizes}),
        "strings": len(part),
        "against_torch_forward": {name: vars(difference) for name, difference in worst.items()},
    }


def _refusal(name: str, rows: int, difference: Difference) -> str:
    return (
        f"{name} at batch size {rows} differs from the model by {difference.log_probability:.3g} in a "
        f"log-probability (at most {TOLERANCE:g} is allowed); nothing was published"
    )


@torch.no_grad()
def _chunks(model: CharModel, part: Part) -> Iterator[tuple[list[list[int]], list[Float32]]]:
    """Strings as ids, and the forward's logits for each, [length + 1, V], a chunk at a time."""
    model.eval()
    for index in torch.arange(len(part)).split(part.rows_at_once(int(part.lengths.max()))):
        tokens, _ = part.rows(index)
        logits = model(tokens).numpy()  # [B, T, V]
        lengths = part.lengths[index].tolist()
        encoded = [row[1:n].tolist() for row, n in zip(tokens, lengths, strict=True)]
        yield encoded, [row[:n] for row, n in zip(logits, lengths, strict=True)]


def score_stepwise(
    session: StepSession, encoded: Sequence[Sequence[int]], rows: int
) -> list[Float32]:
    """Logits after every prefix of every string, [length + 1, V] each, through `rows` rows."""
    specs = session.manifest.states
    waiting = iter(enumerate(encoded))
    scored: list[list[Float32]] = [[] for _ in encoded]
    current: list[tuple[int, Sequence[int]] | None] = [next(waiting, None) for _ in range(rows)]
    states = initial_states(specs, rows)
    while any(current):
        token = np.zeros(rows, np.int64)
        for row, entry in enumerate(current):
            done = len(scored[entry[0]]) if entry else 0
            token[row] = entry[1][done - 1] if entry and done else BOUNDARY
        logits, states = session.step(token, states)
        states = tuple(state.copy() for state in states)
        for row, entry in enumerate(current):
            if entry is None:
                continue
            scored[entry[0]].append(logits[row].copy())
            if len(scored[entry[0]]) > len(entry[1]):
                current[row] = next(waiting, None)
                for state in states:
                    state[row] = 0
    return [np.stack(logits_) for logits_ in scored]


def _compare(expected: Sequence[Float32], found: Sequence[Float32]) -> Difference:
    ours, theirs = np.concatenate(expected).astype(float), np.concatenate(found).astype(float)
    with np.errstate(invalid="ignore"):  # infinite logits make a NaN, which is refused
        logits = np.abs(ours - theirs).max()
        log_probability = np.abs(_log_softmax(ours) - _log_softmax(theirs)).max()
    return Difference(float(logits), float(log_probability))


def _log_softmax(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    centred = logits - logits.max(axis=1, keepdims=True)  # [N, V]
    result: npt.NDArray[np.float64] = centred - np.log(np.exp(centred).sum(axis=1, keepdims=True))
    return result
