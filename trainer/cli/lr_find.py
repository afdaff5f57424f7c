"""`makemore lr-find`."""

from pathlib import Path

import click

from trainer import terminal
from trainer.cli.options import data_option
from trainer.config import RunConfig, resolve
from trainer.data.batches import Part
from trainer.data.dataset import DataConfig, load
from trainer.environment import prepare
from trainer.lr_find import propose, sweep
from trainer.models import MODELS


@click.command("lr-find")
@click.option("--model", type=click.Choice(list(MODELS)), default="lstm", show_default=True)
@data_option
@click.option("--steps", default=300, show_default=True, help="Rates to try, one a step.")
@click.option("--seed", default=1, show_default=True, help="Of weights and batches.")
def command(model: str, data: Path, steps: int, seed: int) -> None:
    """Sweep the learning rate, draw the loss at each, and propose one."""
    knobs, training = resolve(model, {}, {"seed": seed})
    prepare(training)
    dataset = load(DataConfig(data))
    config = RunConfig(
        model, knobs, training, dataset.vocabulary.alphabet, dataset.max_length, dataset.about
    )
    if config.build_model().counted:
        raise click.UsageError(f"'{model}' is counted, not trained: it has no learning rate")
    found = sweep(config, Part(dataset.parts["train"], config.vocabulary), steps)
    click.echo(terminal.curve(found.rates, found.losses, "loss by learning rate", is_log=True))
    best = propose(found.rates, found.losses)
    click.echo(f"proposed: --learning-rate {best:.2g}  (the default is {training.learning_rate:g})")
