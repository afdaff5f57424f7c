"""What a person sees of a training: a bar on a terminal, plain lines elsewhere."""

import time
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from serving.engine.sampling import SamplingParameters
from trainer import preview
from trainer.config import RunConfig
from trainer.data.dataset import Dataset
from trainer.models.base import CharModel

LOSS_EVERY = 50


class PlainReporter:
    """A line an evaluation, and samples now and then."""

    def __init__(self, config: RunConfig, dataset: Dataset, first_step: int = 0) -> None:
        self.config = config
        self.dataset = dataset
        self.first_step = first_step
        self.characters = 0
        self.evaluations = 0
        self.started = time.monotonic()

    def stepped(self, step: int, loss: Tensor, characters: int) -> None:
        """See Reporter."""
        self.characters += characters

    def evaluated(self, row: dict[str, Any], model: CharModel) -> None:
        """See Reporter."""
        steps, speed = self.config.training.steps, self.characters_per_second()
        best = "  best so far" if row["is_best"] else ""
        rate = f"  {speed:,.0f} characters/s  {self.time_left(row['step'])} left" if speed else ""
        place = f"step {row['step']:,}/{steps:,}  " if speed else ""
        self.say(f"{place}loss {row['loss']:.4f}  dev NLL {row['dev_nll']:.4f}{rate}{best}")
        self.evaluations += 1
        every = self.config.training.sample_every
        if every and (self.evaluations % every == 0 or row["step"] in (0, steps)):
            self.say("samples:")
            texts = preview.draw(model, self.config, 10, SamplingParameters(seed=row["step"]))
            self.say("\n".join(preview.table(texts, self.dataset)))

    def characters_per_second(self) -> float:
        """Training's speed, boundaries counted, evaluations included."""
        return self.characters / max(time.monotonic() - self.started, 1e-9)

    def time_left(self, step: int) -> str:
        """Minutes and seconds to the last step at the pace so far."""
        pace = (time.monotonic() - self.started) / max(step - self.first_step, 1)
        minutes, seconds = divmod(round(pace * (self.config.training.steps - step)), 60)
        return f"{minutes}:{seconds:02d}"

    def say(self, text: str) -> None:
        """Print."""
        click.echo(text)

    def close(self) -> None:
        """Training has ended."""


class BarReporter(PlainReporter):
    """A progress bar below the lines."""

    def __init__(self, config: RunConfig, dataset: Dataset, first_step: int = 0) -> None:
        super().__init__(config, dataset, first_step)
        self.progress = Progress(
            TextColumn("step {task.completed:,.0f}/{task.total:,.0f}"),
            BarColumn(),
            TextColumn("loss {task.fields[loss]:.3f}  dev {task.fields[dev]:.4f}"),
            TextColumn("{task.fields[speed]:,.0f} char/s"),
            TimeRemainingColumn(),
            console=Console(highlight=False, markup=False, emoji=False),
        )
        self.task = self.progress.add_task(
            "train",
            total=config.training.steps,
            completed=first_step,
            loss=float("nan"),
            dev=float("nan"),
            speed=0.0,
        )
        self.progress.start()

    def stepped(self, step: int, loss: Tensor, characters: int) -> None:
        """See Reporter."""
        super().stepped(step, loss, characters)
        if step % LOSS_EVERY == 0:  # reading the loss waits for the step, which costs on a GPU
            self.progress.update(
                self.task, completed=step, loss=float(loss), speed=self.characters_per_second()
            )

    def evaluated(self, row: dict[str, Any], model: CharModel) -> None:
        """See Reporter."""
        self.progress.update(self.task, completed=row["step"], dev=row["dev_nll"])
        super().evaluated(row, model)

    def say(self, text: str) -> None:
        """Print above the bar."""
        self.progress.console.print(text, soft_wrap=True)

    def close(self) -> None:
        """Take the bar away."""
        self.progress.stop()


class SilentReporter(PlainReporter):
    """Says nothing: all workers but the first."""

    def say(self, text: str) -> None:
        """Nothing."""


def reporter_for(
    config: RunConfig, dataset: Dataset, first_step: int, is_terminal: bool, is_first: bool = True
) -> PlainReporter:
    """The reporter that suits where the output goes."""
    kind = BarReporter if is_terminal else PlainReporter
    return (kind if is_first else SilentReporter)(config, dataset, first_step)
