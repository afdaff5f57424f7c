"""`makemore top`."""

import math
from typing import Any

import click

from serving.cli.options import CALLING, CONSTRAINTS, all_of, connected, constraints_of, json_line
from serving.quoting import without_controls


@click.command("top")
@click.option("--prefix", default="", help="What each string begins with.")
@click.option("-n", type=click.IntRange(1), default=10, show_default=True, help="How many.")
@all_of(CONSTRAINTS)
@click.option("--max-expansions", type=int, help="Prefixes to look at.  [default: 20,000]")
@click.option("--json", "as_json", is_flag=True, help="The whole answer as a JSON object.")
@all_of(CALLING)
def command(address: str, timeout: float, as_json: bool, **given: Any) -> None:
    """Print a model's most likely strings, exactly and in order."""
    constraints = {k: v for k, v in constraints_of(given).items() if v is not None}
    with connected(address, timeout) as client:
        response = client.list_top_strings(**given, **constraints)
    if as_json:
        click.echo(json_line(response))
        return
    for string in response.strings:
        click.echo(f"{100 * math.exp(string.log_prob):8.4f} %  {without_controls(string.text)}")
    click.echo(f"together {100 * response.mass_covered:.2f} %", err=True)
    if not response.complete:
        click.echo("not all were found; see --max-expansions and --timeout", err=True)
