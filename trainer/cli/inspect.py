"""`makemore inspect`."""

from pathlib import Path

import click

from trainer.data.inspection import inspect, report
from trainer.data.lines import read_lines


@click.command("inspect")
@click.argument("data", type=click.Path(path_type=Path))
def command(data: Path) -> None:
    """Say what is in a text file before one trains on it."""
    click.echo(report(inspect(read_lines(data))))
