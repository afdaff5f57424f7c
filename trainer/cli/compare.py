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
    points = {s.name.rpartition("/")[2]: (s.speed[64], s.per_character) for s in standings}
    click.echo()
    title = "NLL a character (lower is better) by characters a second, 64 rows"
    click.echo(terminal.scatter(points, title, is_log=True))
