"""Options that several commands have, and the flags of a training."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from trainer.config import BACKWARDS, DEVICES, INITS
from trainer.data.dataset import SHIPPED
from trainer.optimizers import OPTIMIZERS
from trainer.schedule import SCHEDULES

F = TypeVar("F", bound=Callable[..., Any])
GIVEN = (click.core.ParameterSource.COMMANDLINE, click.core.ParameterSource.ENVIRONMENT)

run_option = click.option(
    "--run",
    type=click.Path(path_type=Path),
    default="runs/lstm",
    show_default=True,
    help="Folder of the run.",
)
data_option = click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=SHIPPED,
    help="UTF-8 text file, one thing a line.  [default: US given names of 2018]",
)

# Flags that are passed on only if given: what is not given, the architecture decides.
MODEL_FLAGS = {
    "layers": (int, "Layers, one above the other."),
    "hidden": (int, "Width of a layer."),
    "embedding": (int, "Width of a character's vector."),
    "heads": (int, "Heads of attention."),
    "context": (int, "Characters in the window of the MLP."),
    "norm": (str, "Normalisation of the MLP: batch, layer or none."),
    "skip": (int, "Channels of the CNN's skip path."),
    "cycle": (int, "Layers of the CNN until its dilation starts anew."),
    "dropout": (float, "Share of values dropped in training."),
    "token_dropout": (float, "Share of characters dropped whole in training."),
    "weight_dropout": (float, "Share of recurrent weights dropped in training."),
    "alpha": (float, "Added to each count of the bigram."),
}
TRAINING_FLAGS = {
    "steps": (int, "Batches to train on, at most."),
    "batch_size": (int, "Strings in a batch."),
    "pool": (int, "Batches' worth of strings sorted by length together; 1 for none."),
    "optimizer": (click.Choice(OPTIMIZERS), "What moves the weights."),
    "learning_rate": (float, "The rate at its peak."),
    "warmup": (int, "Steps in which the rate rises."),
    "weight_decay": (float, "Weight decay, on matrices."),
    "beta2": (float, "AdamW's decay of the second moment."),
    "clip": (float, "Largest norm of the gradient."),
    "average": (float, "Decay of the average of weights; 0 for none."),
    "evaluate_every": (int, "Steps between evaluations and checkpoints."),
    "patience": (int, "Evaluations without progress before stopping; 0 for no limit."),
    "sample_every": (int, "Evaluations between shows of samples; 0 for none."),
    "seed": (int, "Seed of weights, dropout and batches."),
    "threads": (int, "Threads of torch; 0 leaves it to torch."),
    "schedule": (click.Choice(list(SCHEDULES)), "How the rate falls."),
    "init": (click.Choice(INITS), "First weights; `naive` shows what bad ones do."),
    "backward": (click.Choice(BACKWARDS), "Who finds the gradients; `manual` for the MLP alone."),
    "device": (click.Choice(DEVICES), "Where to train."),
}


def flags(table: dict[str, tuple[Any, str]]) -> Callable[[F], F]:
    """A decorator that adds options without defaults."""

    def decorate(command: F) -> F:
        for name, (kind, text) in reversed(table.items()):
            command = click.option(f"--{name.replace('_', '-')}", name, type=kind, help=text)(
                command
            )
        return command

    return decorate


def picked(given: dict[str, Any], table: dict[str, Any]) -> dict[str, Any]:
    """The flags of a table that were given."""
    return {name: given[name] for name in table if given[name] is not None}


def is_given(name: str) -> bool:
    """Whether an option was given, on the command line or as an environment variable."""
    return click.get_current_context().get_parameter_source(name) in GIVEN
