"""`makemore sample`."""

from pathlib import Path

import click

from serving.engine.sampling import SamplingParameters, random_seed
from serving.errors import InvalidArgument
from serving.quoting import shown
from serving.vocabulary import UnknownCharacter, normalise
from trainer import preview
from trainer.cli.options import run_option
from trainer.run import Run


@click.command("sample")
@run_option
@click.option("-n", type=click.IntRange(min=1), default=20, show_default=True, help="How many.")
@click.option("--prefix", default="", help="What each begins with.")
@click.option("--temperature", default=1.0, show_default=True, help="0 for the most likely.")
@click.option(
    "--top-k", default=0, show_default=True, help="Draw among the k likeliest; 0 for all."
)
@click.option("--seed", type=int, help="The same seed gives the same strings.  [default: random]")
@click.option("--mark", is_flag=True, help="Show which are in train, dev or test, or new.")
def command(
    run: Path, n: int, prefix: str, temperature: float, top_k: int, seed: int | None, mark: bool
) -> None:
    """Print samples from a run, without training."""
    opened = Run.open(run)
    seed = random_seed() if seed is None else seed
    parameters = SamplingParameters(temperature, top_k, seed)
    try:
        texts = preview.draw(opened.load_model(), opened.config, n, parameters, normalise(prefix))
    except UnknownCharacter as error:
        raise InvalidArgument("prefix", error.description) from None
    click.echo("\n".join(preview.table(texts, opened.dataset()) if mark else map(shown, texts)))
