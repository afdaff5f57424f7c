"""`makemore evaluate`."""

from pathlib import Path

import click

from serving.vocabulary import UnknownCharacter
from trainer.cli.options import run_option
from trainer.config import RunConfig
from trainer.data.batches import Part
from trainer.data.lines import read_some_lines
from trainer.errors import DataError
from trainer.evaluate import evaluate
from trainer.run import Run
from trainer.train import print_leaderboard


@click.command("evaluate")
@run_option
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Lines to score.  [default: the run's own parts]",
)
def command(run: Path, data: Path | None) -> None:
    """Print the NLL of held-out lines, in nats per predicted character, ends included."""
    opened = Run.open(run)
    if data is None:
        print_leaderboard(opened, opened.dataset())
        return
    strings = read_some_lines(data).strings
    check_known(strings, opened.config, data)
    score = evaluate(opened.load_model(), Part(strings, opened.config.vocabulary))
    click.echo(f"NLL {score.nll:.4f}  ({score.characters:,} characters, {score.strings:,} strings)")


def check_known(strings: tuple[str, ...], config: RunConfig, data: Path) -> None:
    """Raise DataError for a string with a character that the model has never seen."""
    for string in strings:
        try:
            config.vocabulary.encode(string)
        except UnknownCharacter as error:
            raise DataError("data", f"{data}: '{string}': {error.description}") from None
