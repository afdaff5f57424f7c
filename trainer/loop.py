"""The training loop: update, look now and then, keep the best.

Knows nothing of files but `Run`, and nothing of terminals: what happens is told to a `Reporter`.
"""

import time
from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor

from trainer.data.batches import IGNORED, Batches, Part
from trainer.evaluate import evaluate
from trainer.models.base import CharModel
from trainer.observe import Observer
from trainer.run import Run
from trainer.training import Training


class Reporter(Protocol):
    """Is told what happens."""

    def stepped(self, step: int, loss: Tensor, characters: int) -> None:
        """A step was taken; `loss` is that of its batch, not yet waited for."""

    def evaluated(self, row: dict[str, Any], model: CharModel) -> None:
        """The dev part was scored; `row` goes to metrics.jsonl, `model` is what was scored."""

    def say(self, text: str) -> None:
        """Something for a person to read."""

    def close(self) -> None:
        """Training has ended."""


def fit(
    training: Training,
    run: Run,
    parts: dict[str, Part],
    reporter: Reporter,
    is_stopping: Callable[[], bool] = lambda: False,
) -> None:
    """Train until it is finished or told to stop; leaves a checkpoint in either case."""
    config, workers = training.config, training.workers
    batches = Batches(parts["train"], config.batch_size, config.seed, config.pool)
    observer = Observer(run, config.steps)
    started = time.monotonic() - training.seconds
    if training.step == 0:
        keep(training, run)
    while not training.is_finished and not workers.any(is_stopping(), config.device):
        tokens, targets = batches[training.step]
        loss = observer.update(training, tokens, targets)
        reporter.stepped(training.step, loss, int((targets != IGNORED).sum()))
        if training.is_evaluation_due:
            training.seconds = time.monotonic() - started
            evaluate_and_keep(training, run, parts["dev"], float(loss), reporter)
            keep(training, run)
    training.seconds = time.monotonic() - started
    keep(training, run)


def keep(training: Training, run: Run) -> None:
    """Write what resuming needs."""
    if training.workers.is_first:
        run.save(run.last, training.state_dict())
    training.workers.barrier()


def evaluate_and_keep(
    training: Training, run: Run, dev: Part, loss: float, reporter: Reporter
) -> None:
    """Score the dev part, keep the weights if they are the best so far, and tell."""
    rate = training.optimizer.rate
    score = evaluate(training.averaged, dev)
    is_best = training.judge(score.nll)
    if not training.workers.is_first:
        return
    if is_best:
        content = {"averaged": training.averaged.state_dict(), "step": training.step}
        run.save(run.best, {**content, "nll": score.nll})
    row = {
        "step": training.step,
        "loss": loss,
        "dev_nll": score.nll,
        "is_best": is_best,
        "learning_rate": rate,
        "seconds": round(training.seconds, 3),
    }
    run.append(run.metrics, row)
    reporter.evaluated(row, training.averaged)


def count(training: Training, run: Run, parts: dict[str, Part], reporter: Reporter) -> None:
    """Fit a model whose parameters are counts: no steps, one evaluation."""
    if training.workers.is_first:
        model, train = training.model, parts["train"]
        model.fit_counts(*train.pairs)
        training.averaged.load_state_dict(model.state_dict())
        evaluate_and_keep(training, run, parts["dev"], evaluate(model, train).nll, reporter)
    keep(training, run)
