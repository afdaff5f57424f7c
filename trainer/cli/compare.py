"""`makemore compare`."""

from pathlib import Path

import click

from trainer import terminal
from trainer.compare import standing, table
from trainer.run import Run


@click.command("compare")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
def command(runs: tuple[Path, ...]) -> None:
    """Print the leaderboard of RUNS, and draw quality against speed."""
    standings = [standing(run) for run in map(Run.open, runs)]
    click.echo("\n".join(table(standings)))
    labels = [s.name.rpartition("/")[2] for s in standings]
    if len(set(labels)) < len(labels):  # runs of the same name in different folders
        labels = [s.name for s in standings]
    points = {
        label: (s.speed[64], s.per_character) for label, s in zip(labels, standings, strict=True)
    }
    click.echo()
    title = "NLL a character (lower is better) by characters a second, 64 rows"
    click.echo(terminal.scatter(points, title, is_log=True))
