"""`makemore generate`."""

from typing import Any

import click

from serving.client import TIMEOUT, Client
from serving.config import LISTEN
from serving.errors import NoServer


@click.command("generate")
@click.option("--address", default=LISTEN, show_default=True, help="host:port of the server.")
@click.option("--prefix", default="", help="What each string begins with.")
@click.option("-n", default=10, show_default=True, help="How many.")
@click.option("--model", default="", help="names, or names@2.  [default: the server's]")
@click.option("--temperature", type=float, help="0 for the most likely.  [default: the model's]")
@click.option("--top-k", type=int, help="Draw among the k likeliest.  [default: the model's]")
@click.option("--seed", type=int, help="The same seed gives the same strings.  [default: random]")
@click.option("--max-length", type=int, help="Longest string.  [default: the model's]")
@click.option("--timeout", default=TIMEOUT, show_default=True, help="Seconds to wait.")
def command(address: str, timeout: float, **asked: Any) -> None:
    """Print strings from a running server, one a line."""
    with Client(address, timeout) as client:
        try:
            response = client.generate(**asked)
        except NoServer as error:
            raise NoServer(f"{error}\nstart one with: makemore serve --listen {address}") from None
    for sample in response.samples:
        click.echo(sample.text)
