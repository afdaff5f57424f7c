"""`makemore health`: what a container's health check and people ask."""

import click
import grpc_health.v1  # noqa: F401 - which the client imports late: who lacks it is told so here

from serving.cli.options import SECURITY, all_of, connected
from serving.client import Client
from serving.config import LISTEN
from serving.errors import NotFound, ServingError, Unavailable


@click.command("health")
@click.option("--address", default=LISTEN, show_default=True, help="host:port or unix:path.")
@click.option(
    "--service",
    default="",
    help="models/names, or a service of the proto by its full name.  [default: the whole server]",
)
@click.option("--timeout", default=5.0, show_default=True, help="Seconds to wait.")
@all_of(SECURITY)
def command(address: str, service: str, timeout: float) -> None:
    """Ask whether a server is serving: exit status 0 if it is, 1 if it is not."""
    with connected(address, timeout) as client:
        status = asked(client, service)
    click.echo(status)
    if status != "SERVING":
        click.get_current_context().exit(Unavailable.exit_status)


def asked(client: Client, service: str) -> str:
    """The health of a service; raises Unavailable whatever fails, since 2 means nothing to a health check."""
    try:
        return client.health(service)
    except NotFound:
        raise Unavailable(f"the server at {client.address} does not know '{service}'") from None
    except Unavailable:
        raise
    except ServingError as error:
        raise Unavailable(str(error)) from None
