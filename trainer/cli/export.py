"""`makemore export`."""

import shlex
from pathlib import Path

import click

from serving.catalogue import check_name
from serving.errors import InvalidArgument
from trainer.cli.options import run_option
from trainer.export.export import export
from trainer.export.superseded import Superseded
from trainer.models.base import FUSED, OPERATORS
from trainer.run import Run


@click.command("export")
@run_option
@click.option("--name", help="Name of the model.  [default: that of the run's folder]")
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
@click.option(
    "--replace-better",
    is_flag=True,
    help="Publish even if the newest version of this name has a lower dev NLL.",
)
def command(
    run: Path, name: str | None, repository: Path, operators: str, replace_better: bool
) -> None:
    """Publish a run as the next version of a model.

    Servers of the repository take the new version up within seconds, in place of the one before.

    Refuses a graph whose log-probabilities differ from the trained model's. Also refuses a model whose
    dev NLL is higher than that of the version before, unless --replace-better is given. Models with
    different dev parts (other data, another split) cannot be compared: both figures are printed, and
    the model is published.
    """
    opened = Run.open(run)
    name = name_of(opened) if name is None else name
    folder, manifest = export(opened, name, repository, operators, replace_better)
    parity = manifest.parity
    click.echo(
        f"parity: {parity['strings']:,} strings at batch sizes {parity['batch_sizes']}; largest "
        f"difference {parity['max_abs_log_probability']:.2g} in a log-probability"
    )
    superseded = Superseded.before(folder)
    if superseded:
        click.echo(superseded.comparison(manifest))
    else:
        click.echo(f"dev NLL {manifest.metrics['dev']['nll']:.4f}")
    serve = ("makemore", "serve", "--repository", str(repository), "--default-model", name)
    click.echo(f"published {folder}; a server of {repository} takes it up within seconds")
    click.echo(
        f"next: {shlex.join(serve)}, or, where it serves already: makemore generate --model {name}"
    )


def name_of(run: Run) -> str:
    """The name of a run's folder, as that of its model."""
    try:
        check_name(run.name)
    except InvalidArgument as error:
        raise InvalidArgument(
            "name", f"that of the run's folder, {error.description}; give --name"
        ) from None
    return run.name
