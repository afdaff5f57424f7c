"""`makemore serve`."""

import asyncio
import logging
from pathlib import Path

import click

from serving.config import LISTEN, ServerConfig
from serving.server import Server, run


@click.command("serve")
@click.option(
    "--repository",
    type=click.Path(path_type=Path),
    default="exported_models",
    show_default=True,
    help="Folder of published models.",
)
@click.option(
    "--listen", default=LISTEN, show_default=True, help="host:port; port 0 for a free one."
)
@click.option("--default-model", default="", help="Model of requests that name none.")
@click.option("--max-rows", default=256, show_default=True, help="Strings a model runs at once.")
@click.option("--threads", default=1, show_default=True, help="Threads of each model's steps.")
@click.option(
    "--grace", default=30.0, show_default=True, help="Seconds for calls under way when stopped."
)
def command(
    repository: Path, listen: str, default_model: str, max_rows: int, threads: int, grace: float
) -> None:
    """Serve published models over gRPC until SIGTERM or Ctrl-C."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    config = ServerConfig(repository, listen, default_model, max_rows, threads, grace)
    asyncio.run(run(config, announce))


def announce(server: Server) -> None:
    """Tell what is served and where."""
    names = ", ".join(f"{m.name}@{m.version}" for m in server.host.models())
    click.echo(f"serving {names} on {server.config.host}:{server.port}")
