"""`makemore generate`."""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, NamedTuple

import click

from makemore.v1 import generation_service_pb2 as pb
from serving.cli.options import CALLING, CONSTRAINTS, all_of, connected, constraints_of, json_line
from serving.cli.types import INT32, UINT64
from serving.client import Client
from serving.limits import MAX_N, MAX_STREAM_N
from serving.quoting import shown

WHY: dict[int, str] = {
    pb.SHORTFALL_REASON_SPACE_EXHAUSTED: "there are no more such strings",
    pb.SHORTFALL_REASON_ATTEMPTS: "too many that do not fit were drawn; see --max-attempts",
    pb.SHORTFALL_REASON_DEADLINE: "the time was up; see --timeout",
}


@click.command("generate")
@click.option("--prefix", default="", help="What each string begins with.")
@click.option(
    "-n", type=click.IntRange(1, MAX_STREAM_N), default=10, show_default=True, help="How many."
)
@click.option("--temperature", type=float, help="0 for the most likely.  [default: the model's]")
@click.option("--top-k", type=INT32, help="Draw among the k likeliest.  [default: the model's]")
@click.option("--top-p", type=float, help="Draw among the likeliest that make up this much.")
@click.option("--min-p", type=float, help="Draw among those this times as likely as the best.")
@click.option(
    "--seed",
    type=UINT64,
    help="The same seed gives the same strings.  [default: random]",
)
@click.option("--unique", is_flag=True, help="No string twice.")
@click.option("--complete", is_flag=True, help="Only strings that the model itself ends.")
@click.option("--exact", is_flag=True, help="Keep the model's proportions: draw again, not mask.")
@click.option("--max-attempts", type=INT32, help="How often one string is drawn at most.")
@all_of(CONSTRAINTS)
@click.option(
    "--start-index", type=INT32, default=0, help="Of the first string; goes on with a --seed."
)
@click.option(
    "--show-seed",
    is_flag=True,
    help="Print on standard error which model and seed give these strings again.",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="A JSON object a line, with probabilities, and the model and seed that give it again.",
)
@all_of(CALLING)
def command(address: str, timeout: float, as_json: bool, show_seed: bool, **given: Any) -> None:
    """Print strings from a running server, one a line."""
    settings = settings_of(given)
    with connected(address, timeout) as client:
        origin, samples = answer_of(client, **settings)
        if show_seed:
            click.echo(f"model {origin.model}, seed {origin.seed}", err=True)
        for sample in samples:
            click.echo(json_line(sample, **origin._asdict()) if as_json else shown(sample.text))


class Origin(NamedTuple):
    """What --model and --seed take to give the same strings again."""

    model: str
    seed: int

    @classmethod
    def of(cls, message: pb.GenerateResponse | pb.StreamHeader) -> "Origin":
        """That of an answer."""
        return cls(message.model.removeprefix("models/"), message.seed)


def settings_of(given: dict[str, Any]) -> dict[str, Any]:
    """What the client's methods take, from the options' values."""
    constraints = constraints_of(given) | {
        "unique": given.pop("unique"),
        "exact": given.pop("exact"),
        "length_policy": "LENGTH_POLICY_COMPLETE_ONLY" if given.pop("complete") else None,
        "max_attempts_per_sample": given.pop("max_attempts"),
    }
    return given | constraints


def answer_of(
    client: Client, prefix: str, n: int, start_index: int, **settings: Any
) -> tuple[Origin, Iterator[pb.Sample]]:
    """The origin of strings, and the strings, which come from one answer or from a stream."""
    if n <= MAX_N and not start_index:
        response = client.generate(prefix, n, **settings)
        return Origin.of(response), samples_of([response])
    messages = client.stream(prefix, n, start_index=start_index, **settings)
    first = next(messages, pb.StreamGenerateResponse())
    return Origin.of(first.header), samples_of(chain([first], messages))


def samples_of(
    messages: Iterable[pb.GenerateResponse | pb.StreamGenerateResponse],
) -> Iterator[pb.Sample]:
    """The strings of all messages; says on standard error why some are missing."""
    for message in messages:
        yield from message.samples
        last = message.trailer if isinstance(message, pb.StreamGenerateResponse) else message
        explain(last.shortfall_reason)


def explain(reason: int) -> None:
    """Say why there are fewer strings than were asked for."""
    if reason in WHY:
        click.echo(f"fewer than asked for: {WHY[reason]}", err=True)
