"""`makemore next`."""

import math
from typing import Any

import click

from serving.cli.options import CALLING, all_of, connected, json_line
from serving.quoting import without_controls


@click.command("next")
@click.argument("prefixes", nargs=-1, required=True)
@click.option("--top", default=10, show_default=True, help="How many characters; 0 for all.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line.")
@all_of(CALLING)
def command(
    prefixes: tuple[str, ...], address: str, timeout: float, as_json: bool, **asked: Any
) -> None:
    """Tell which characters may follow each of PREFIXES, the most likely first."""
    with connected(address, timeout) as client:
        found = client.next_characters(prefixes, **asked)
    for prefix, distribution in zip(prefixes, found, strict=True):
        if as_json:
            click.echo(json_line(distribution, prefix=prefix))
            continue
        click.echo(f"{prefix!r}:")
        for one in distribution.characters:
            shown = without_controls(one.character) or "end"
            click.echo(f"  {shown:<4} {100 * math.exp(one.log_prob):6.2f} %")
