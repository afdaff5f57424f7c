"""`makemore generate`."""

from collections.abc import Iterator
from typing import Any

import click

from makemore.v1 import generation_service_pb2 as pb
from serving.cli.options import CALLING, CONSTRAINTS, all_of, connected, constraints_of, json_line
from serving.client import Client
from serving.limits import MAX_N
from serving.quoting import without_controls

WHY: dict[int, str] = {
    pb.SHORTFALL_REASON_SPACE_EXHAUSTED: "there are no more such strings",
    pb.SHORTFALL_REASON_ATTEMPTS: "too many that do not fit were drawn; see --max-attempts",
    pb.SHORTFALL_REASON_DEADLINE: "the time was up; see --timeout",
}


@click.command("generate")
@click.option("--prefix", default="", help="What each string begins with.")
@click.option("-n", type=click.IntRange(1), default=10, show_default=True, help="How many.")
@click.option("--temperature", type=float, help="0 for the most likely.  [default: the model's]")
@click.option("--top-k", type=int, help="Draw among the k likeliest.  [default: the model's]")
@click.option("--top-p", type=float, help="Draw among the likeliest that make up this much.")
@click.option("--min-p", type=float, help="Draw among those this times as likely as the best.")
@click.option("--seed", type=int, help="The same seed gives the same strings.  [default: random]")
@click.option("--unique", is_flag=True, help="No string twice.")
@click.option("--complete", is_flag=True, help="Only strings that the model itself ends.")
@click.option("--exact", is_flag=True, help="Keep the model's proportions: draw again, not mask.")
@click.option("--max-attempts", type=int, help="How often one string is drawn at most.")
@all_of(CONSTRAINTS)
@click.option("--start-index", default=0, help="Of the first string; goes on with a --seed.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line, with probabilities.")
@all_of(CALLING)
def command(address: str, timeout: float, as_json: bool, **given: Any) -> None:
    """Print strings from a running server, one a line."""
    settings = settings_of(given)
    with connected(address, timeout) as client:
        for sample in samples(client, **settings):
            click.echo(json_line(sample) if as_json else without_controls(sample.text))


def settings_of(given: dict[str, Any]) -> dict[str, Any]:
    """What the client's methods take, from the options' values."""
    constraints = constraints_of(given) | {
        "unique": given.pop("unique"),
        "exact": given.pop("exact"),
        "length_policy": "LENGTH_POLICY_COMPLETE_ONLY" if given.pop("complete") else None,
        "max_attempts_per_sample": given.pop("max_attempts"),
    }
    return given | constraints


def samples(
    client: Client, prefix: str, n: int, start_index: int, **settings: Any
) -> Iterator[pb.Sample]:
    """The strings, from one answer or from a stream; says on stderr why some are missing."""
    if n <= MAX_N and not start_index:
        response = client.generate(prefix, n, **settings)
        yield from response.samples
        explain(response.shortfall_reason)
        return
    for message in client.stream(prefix, n, start_index=start_index, **settings):
        yield from message.samples
        explain(message.trailer.shortfall_reason)


def explain(reason: int) -> None:
    """Say why there are fewer strings than were asked for."""
    if reason in WHY:
        click.echo(f"fewer than asked for: {WHY[reason]}", err=True)
