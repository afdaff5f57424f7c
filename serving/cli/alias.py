"""`makemore alias`."""

from pathlib import Path

import click

from serving import aliases
from serving.catalogue import check_name


@click.command("alias")
@click.argument("name")
@click.argument("alias")
@click.argument("version", type=click.IntRange(1), required=False)
@click.option("--remove", is_flag=True, help="Let the alias mean nothing any more.")
@click.option(
    "--repository",
    type=click.Path(path_type=Path),
    default="exported_models",
    show_default=True,
    help="Folder of published models.",
)
def command(name: str, alias: str, version: int | None, remove: bool, repository: Path) -> None:
    """Let NAME@ALIAS mean a VERSION of a model: `makemore alias names stable 2`.

    A server that watches the repository follows within seconds.
    """
    if remove == (version is not None):
        raise click.UsageError("give a VERSION, or --remove")
    check_name(name)
    left = aliases.write(repository / name, alias, version)
    told = ", ".join(f"{name}@{one} is version {number}" for one, number in sorted(left.items()))
    click.echo(told or f"{name} has no aliases")
