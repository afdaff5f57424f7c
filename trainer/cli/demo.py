"""`makemore demo`: the whole way, from a text file to strings over gRPC."""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from makemore.v1.generation_service_pb2 import GenerateResponse
from serving.client import Client
from trainer.data.dataset import DataConfig
from trainer.export.export import export
from trainer.train import new_run, print_leaderboard, train

SERVE = (sys.executable, "-m", "serving", "serve", "--listen", "127.0.0.1:0", "--repository")
STOP_TIMEOUT = 60
SHORT = {"hidden": 192, "dropout": 0.2, "weight_dropout": 0.0}
"""A smaller network with less dropout learns more in a minute, and less in ten."""


@click.command("demo")
@click.option("--prefix", default="em", show_default=True, help="What the names begin with.")
@click.option("-n", default=10, show_default=True, help="How many names.")
@click.option("--steps", default=1500, show_default=True, help="Batches to train on.")
def command(prefix: str, n: int, steps: int) -> None:
    """Train an LSTM on names, export it, serve it, and ask it for names.

    Everything is made in a scratch folder that is removed at the end.
    """
    with tempfile.TemporaryDirectory(prefix="makemore-demo-") as scratch:
        repository = publish_new(Path(scratch), steps)
        click.echo("== serve")
        with serving(repository) as address:
            click.echo(f"the server answers at {address}")
            click.echo(f"== generate --prefix '{prefix}' -n {n}")
            with Client(address) as client:
                check(client.generate(prefix, n), prefix, n)
        click.echo("== all of it worked; the server has stopped")


def publish_new(scratch: Path, steps: int) -> Path:
    """Train on the shipped names and export; the repository."""
    click.echo("== train")
    flags = {"steps": steps, "evaluate_every": 250, "sample_every": 0}
    run, dataset = new_run(scratch / "run", "lstm", DataConfig(), SHORT, flags)
    click.echo(dataset.summary())
    if not train(run, dataset, resume=False, is_terminal=sys.stdout.isatty()):
        raise click.ClickException("stopped before the training was finished")
    print_leaderboard(run, dataset)
    click.echo("== export")
    folder, manifest = export(run, "demo", scratch / "exported_models")
    worst = manifest.parity["max_abs_log_probability"]
    click.echo(f"demo@{folder.name}: differs from PyTorch by at most {worst:.1g}")
    return scratch / "exported_models"


@contextmanager
def serving(repository: Path) -> Iterator[str]:
    """A server process on a free port; its address. Fails unless it stops cleanly in the end."""
    with subprocess.Popen([*SERVE, str(repository)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r" on (\S+:\d+)$", process.stdout.readline().strip())
            if found is None:
                raise click.ClickException("the server did not start")
            yield found[1]
        finally:
            process.terminate()
            status = process.wait(STOP_TIMEOUT)
    if status != 0:
        raise click.ClickException(f"the server ended with status {status}")


def check(response: GenerateResponse, prefix: str, n: int) -> None:
    """Print the names; fails unless they are what was asked for."""
    texts = [sample.text for sample in response.samples]
    click.echo("\n".join(texts))
    if len(texts) != n or not all(text.startswith(prefix) for text in texts):
        raise click.ClickException(f"asked for {n} names that begin with '{prefix}'")
