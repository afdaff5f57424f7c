"""`makemore export`."""

from pathlib import Path

import click

from trainer.cli.options import run_option
from trainer.export.export import export
from trainer.models.base import FUSED, OPERATORS
from trainer.run import Run


@click.command("export")
@run_option
@click.option("--name", default="names", show_default=True, help="What the model is called.")
@click.option(
    "--repository",
    type=click.Path(path_type=Path),
    default="exported_models",
    show_default=True,
    help="Folder of published models.",
)
@click.option(
    "--operators",
    type=click.Choice(OPERATORS),
    default=FUSED,
    show_default=True,
    help="fused: with onnxruntime's own, fast on a CPU; standard: ONNX's alone, for a GPU.",
)
def command(run: Path, name: str, repository: Path, operators: str) -> None:
    """Publish a run as the next version of a model.

    Refuses a graph whose log-probabilities differ from the trained model's.
    """
    folder, manifest = export(Run.open(run), name, repository, operators)
    parity = manifest.parity
    click.echo(
        f"parity: {parity['strings']:,} strings at batch sizes {parity['batch_sizes']}; largest "
        f"difference {parity['max_abs_log_probability']:.2g} in a log-probability"
    )
    click.echo(f"dev NLL {manifest.metrics['dev']['nll']:.4f}")
    click.echo(f"published {folder}; next: makemore serve --repository {repository}")
