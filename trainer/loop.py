"""The training loop: one batch, one update; now and then an evaluation and a checkpoint.

Knows nothing of files but `Run`, and nothing of terminals: what happens is told to a `Reporter`.
"""

import copy
import math
import time
from collections.abc import Callable
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.config import TrainingConfig
from trainer.data.batches import IGNORED, Batches, Part
from trainer.evaluate import evaluate
from trainer.models.base import CharModel
from trainer.run import Run

FINAL_RATE = 0.01


class Reporter(Protocol):
    """Is told what happens."""

    def stepped(self, step: int, loss: Tensor, characters: int) -> None:
        """A step was taken; `loss` is that of its batch, not yet waited for."""

    def evaluated(self, row: dict[str, Any], model: CharModel) -> None:
        """The dev part was scored; `row` goes to metrics.jsonl, `model` is what was scored."""


def learning_rate(step: int, config: TrainingConfig) -> float:
    """The rate of a step, counted from 0: linear warm-up, then a cosine (Loshchilov, Hutter 2016)."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, config.steps - config.warmup)
    cosine = 0.5 * (1 + math.cos(math.pi * done))
    return config.learning_rate * (FINAL_RATE + (1 - FINAL_RATE) * cosine)


class Training:
    """A model being trained, and all that its next step depends on."""

    def __init__(self, model: CharModel, config: TrainingConfig) -> None:
        self.config = config
        self.model = model
        self.averaged = copy.deepcopy(model).requires_grad_(False).eval()
        self.optimizer = _optimizer(model, config)
        self.step = 0
        self.best_nll = math.inf
        self.best_step = 0
        self.stale = 0
        self.seconds = 0.0

    @property
    def is_finished(self) -> bool:
        """All steps were taken, or the dev NLL has not improved for too long."""
        patience = self.config.patience
        return self.step >= self.config.steps or (patience > 0 and self.stale >= patience)

    @property
    def is_evaluation_due(self) -> bool:
        """After every so many steps, and after the last."""
        return self.step % self.config.evaluate_every == 0 or self.step == self.config.steps

    def update(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """One step on a batch, [B, T] each; returns its mean loss."""
        rate = learning_rate(self.step, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        logits = self.model(tokens)  # [B, T, V]
        loss = F.cross_entropy(
            logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED
        )  # [B*T, V] against [B*T]
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip, foreach=True)
        self.optimizer.step()
        self.step += 1
        self._average()
        return loss.detach()

    @torch.no_grad()
    def _average(self) -> None:
        # Early on the average forgets faster, lest the first weights weigh on it.
        decay = min(self.config.average, (1 + self.step) / (10 + self.step))
        if self.config.average == 0:
            decay = 0.0
        ours: list[Tensor] = list(self.averaged.parameters())
        theirs: list[Tensor] = list(self.model.parameters())
        torch._foreach_lerp_(ours, theirs, 1 - decay)
        for buffer, source in zip(self.averaged.buffers(), self.model.buffers(), strict=True):
            buffer.copy_(source)

    def judge(self, nll: float) -> bool:
        """Note a dev NLL; whether it is the best so far."""
        if nll < self.best_nll:
            self.best_nll, self.best_step, self.stale = nll, self.step, 0
            return True
        self.stale += 1
        return False

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on, torch's global generator (dropout) included."""
        scalars = {name: getattr(self, name) for name in _SCALARS}
        return {
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": torch.get_rng_state(),
            **scalars,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        for name in ("model", "averaged", "optimizer"):
            getattr(self, name).load_state_dict(state[name])
        torch.set_rng_state(state["generator"])
        for name in _SCALARS:
            setattr(self, name, state[name])


_SCALARS = ("step", "best_nll", "best_step", "stale", "seconds")


def _optimizer(model: CharModel, config: TrainingConfig) -> torch.optim.AdamW:
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, config.beta2), fused=True)


def fit(
    training: Training,
    run: Run,
    parts: dict[str, Part],
    reporter: Reporter,
    is_stopping: Callable[[], bool] = lambda: False,
) -> None:
    """Train until it is finished or told to stop; leaves a checkpoint in either case."""
    config = training.config
    batches = Batches(parts["train"], config.batch_size, config.seed)
    started = time.monotonic() - training.seconds
    while not training.is_finished and not is_stopping():
        tokens, targets = batches[training.step]
        loss = training.update(tokens, targets)
        reporter.stepped(training.step, loss, int((targets != IGNORED).sum()))
        if training.is_evaluation_due:
            training.seconds = time.monotonic() - started
            _evaluate(training, run, parts["dev"], float(loss), reporter)
            run.save(run.last, training.state_dict())
    training.seconds = time.monotonic() - started
    run.save(run.last, training.state_dict())


def _evaluate(training: Training, run: Run, dev: Part, loss: float, reporter: Reporter) -> None:
    score = evaluate(training.averaged, dev)
    if is_best := training.judge(score.nll):
        content = {"averaged": training.averaged.state_dict(), "step": training.step}
        run.save(run.best, {**content, "nll": score.nll})
    row = {
        "step": training.step,
        "loss": loss,
        "dev_nll": score.nll,
        "is_best": is_best,
        "learning_rate": learning_rate(training.step - 1, training.config),
        "seconds": round(training.seconds, 3),
    }
    run.append_metrics(row)
    reporter.evaluated(row, training.averaged)


def count(model: CharModel, run: Run, parts: dict[str, Part], reporter: Reporter) -> None:
    """Fit a model whose parameters are counts: no steps, one evaluation."""
    training = Training(model, run.config.training)
    model.fit_counts(parts["train"].tokens, parts["train"].targets)
    training.averaged.load_state_dict(model.state_dict())
    _evaluate(training, run, parts["dev"], evaluate(model, parts["train"]).nll, reporter)
    run.save(run.last, training.state_dict())
