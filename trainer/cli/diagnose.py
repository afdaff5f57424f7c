"""`makemore diagnose`."""

from pathlib import Path

import click

from trainer import report
from trainer.cli.options import run_option
from trainer.diagnostics import layer_statistics
from trainer.run import Run


@click.command("diagnose")
@run_option
def command(run: Path) -> None:
    """Look into a trained network: write its report.html, and print what is miscalibrated."""
    inside = report.write(Run.open(run))
    for name, values in inside.activations.items():
        found = layer_statistics(values)
        click.echo(
            f"{name:<12}mean {found.mean:+.3f}  deviation {found.deviation:.3f}  "
            f"saturated {found.saturated:.1%}  dead {found.dead:.1%}"
        )
    for line in report.warnings_of(inside) or ["nothing looks miscalibrated"]:
        click.echo(f"- {line}")
    click.echo(f"the report is {run / 'report.html'}")
