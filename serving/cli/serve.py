"""`makemore serve`."""

import asyncio
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from serving import checks
from serving.cli.ending import discard_unwritable
from serving.cli.observing import OBSERVING, observing_of
from serving.cli.options import all_of
from serving.config import LISTEN, PROCESS, THREAD, ServerConfig, parse_size
from serving.observe.logs import configure
from serving.placement import CPU, DEVICES
from serving.server import run_and_leave
from serving.text_files import name_of, read_lines
from serving.workers import serve

log = logging.getLogger(__name__)

PATH = click.Path(path_type=Path)
F = TypeVar("F", bound=Callable[..., Any])


def setting(flag: str, help: str) -> Callable[[F], F]:
    """An option whose name and default are those of ServerConfig's field."""
    default = getattr(ServerConfig, flag.removeprefix("--").replace("-", "_"))
    return click.option(flag, default=default, show_default=True, help=help)


@click.command("serve")
@click.option(
    "--repository",
    type=PATH,
    default="exported_models",
    show_default=True,
    help="Folder of published models.",
)
@click.option(
    "--listen",
    default=LISTEN,
    show_default=True,
    help="host:port or unix:path; port 0 for a free one.",
)
@click.option("--default-model", default="", help="Model of requests that name none.")
@setting("--max-rows", "Strings a model runs at once.")
@setting("--threads", "Threads of each model's steps.")
@click.option(
    "--device",
    type=click.Choice(DEVICES),
    default=CPU,
    show_default=True,
    help="Where models run; cuda needs the extra serve-gpu.",
)
@click.option(
    "--prefix-cache",
    show_default="64MiB, with cuda 0",
    help="Memory for prefixes that need not be computed again, for each model; 0 for none.",
)
@setting("--ahead", "Strings drawn at a time ahead of calls that come again and again; 0 for none.")
@click.option(
    "--forbidden",
    type=PATH,
    help="File of substrings, one a line, that no string may have.",
)
@click.option("--tls-certificate", type=PATH, help="PEM file of the server's certificate chain.")
@click.option("--tls-key", type=PATH, help="PEM file of its private key.")
@click.option(
    "--tls-client-ca", type=PATH, help="PEM file: clients must have a certificate of these."
)
@click.option("--token-file", type=PATH, help="File of lines NAME TOKEN: who may call.")
@setting("--max-queue", "Seconds of work that may wait for a model before calls are refused.")
@setting("--read-timeout", "Seconds for which a stream's reader may take nothing before it is cut.")
@setting(
    "--lame-duck",
    "Seconds after SIGTERM in which all is still served, while health says NOT_SERVING.",
)
@setting("--grace", "Seconds for calls under way after that.")
@setting(
    "--reload-interval", "Seconds between two looks at the repository; 0 looks at SIGHUP alone."
)
@setting(
    "--watchdog",
    "Seconds without a step, while work waits, after which the process ends; 0 waits for ever.",
)
@click.option(
    "--engines",
    type=click.Choice([PROCESS, THREAD]),
    show_default="process, with workers thread",
    help="Where models run: all in a process beside the server's, or each in a thread of it.",
)
@click.option(
    "--workers", default=1, show_default=True, help="Processes that share the port and the calls."
)
@all_of(OBSERVING)
def command(
    repository: Path,
    prefix_cache: str | None,
    forbidden: Path | None,
    engines: str | None,
    workers: int,
    **given: Any,
) -> None:
    """Serve published models over gRPC until SIGTERM or Ctrl-C."""
    checks.whole("workers", workers, 1, 256)
    observe = observing_of(given)
    configure(observe)
    lines = read_lines(forbidden, "forbidden") if forbidden else []
    if forbidden and not lines:
        log.warning("%s is empty: nothing is forbidden", name_of(forbidden))
    config = ServerConfig(
        repository,
        engines=engines or (PROCESS if workers == 1 else THREAD),
        prefix_cache=None if prefix_cache is None else parse_size("prefix_cache", prefix_cache),
        forbidden=tuple(lines),
        forbidden_file=forbidden,
        observe=observe,
        **given,
    )

    def announce(names: str, address: str) -> None:
        say(f"serving {names} on {address}")

    if workers == 1:
        asyncio.run(run_and_leave(config, lambda server: announce(server.summary, server.address)))
    else:
        click.get_current_context().exit(serve(config, workers, announce))


def say(line: str) -> None:
    """Print a line; a server serves on where it cannot be told, as on a full disk, and logs that."""
    try:
        click.echo(line)
    except OSError as error:
        log.warning("%s; standard output cannot be written: %s", line, error.strerror)
        discard_unwritable(sys.stdout)
