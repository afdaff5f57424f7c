"""Looks into a training now and then: the loss between looks, and how much an update moves the weights."""

import torch
from torch import Tensor

from trainer.run import Run
from trainer.training import Training

LOOKS = 200


class Observer:
    """Writes a row to a run's updates.jsonl, about 200 times in a training.

    A row has the step, the loss of its batch before the update, the mean loss since the row before, and
    for each matrix the deviation of its update, of its gradient and of itself.
    """

    def __init__(self, run: Run, steps: int) -> None:
        self.run = run
        self.every = max(1, steps // LOOKS)
        self._losses: list[Tensor] = []

    def update(self, training: Training, tokens: Tensor, targets: Tensor) -> Tensor:
        """Let a training take a step, and look at every so many of them; the batch's loss."""
        if not training.workers.is_first:  # who writes nothing has nothing to gather
            return training.update(tokens, targets)
        if training.step % self.every == 0:
            loss = self._watched(training, tokens, targets)
        else:
            loss = training.update(tokens, targets)
        self._losses.append(loss)
        return loss

    def _watched(self, training: Training, tokens: Tensor, targets: Tensor) -> Tensor:
        step = training.step
        matrices = {n: p for n, p in training.model.named_parameters() if p.dim() > 1}
        before = {name: matrix.detach().clone() for name, matrix in matrices.items()}
        loss = training.update(tokens, targets)
        row = {
            "step": step,
            "batch_loss": float(loss),
            "loss": float(torch.stack(self._losses).mean()) if self._losses else None,
            "matrices": {n: _deviations(m, before[n]) for n, m in matrices.items()},
        }
        self._losses.clear()
        self.run.append(self.run.updates, row)
        return loss


def _deviations(matrix: torch.nn.Parameter, before: Tensor) -> dict[str, float]:
    assert matrix.grad is not None
    update = matrix.detach() - before
    return {
        "update": float(update.std()),
        "gradient": float(matrix.grad.std()),
        "data": float(before.std()),
    }
