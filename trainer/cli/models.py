"""`makemore models`."""

import click

from trainer.models import MODELS


@click.command("models")
def command() -> None:
    """List the architectures."""
    width = max(map(len, MODELS))
    for name, entry in MODELS.items():
        click.echo(f"{name:<{width}}  {entry.summary}")
