"""`makemore score`."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from makemore.v1 import generation_service_pb2 as pb
from serving.cli.options import CALLING, all_of, connected, json_line
from serving.text_files import read_lines

BINS = 20
WIDTH = 50


@click.command("score")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--characters", is_flag=True, help="Each character's log-probability too.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line instead of a table.")
@all_of(CALLING)
def command(file: Path, address: str, timeout: float, as_json: bool, **asked: Any) -> None:
    """Tell how likely a model finds the lines of FILE, - for standard input; draw a histogram.

    Blank lines are left out, and blanks around a line.
    """
    texts = [line.text for line in read_lines(file, "file", allow_controls=True)]
    with connected(address, timeout) as client:
        scores = client.score(texts, **asked)
    for text, score in zip(texts, scores, strict=True):
        click.echo(json_line(score, text=text) if as_json else f"{shown(score)}  {text}")
    bits = [s.bits_per_character for s in scores if s.status == pb.SCORE_STATUS_OK]
    if bits and not as_json:
        click.echo("\n".join(["", *histogram(bits)]), err=True)


def shown(score: pb.TextScore) -> str:
    """A score in columns: log-probability, bits a character, percentile."""
    if score.status != pb.SCORE_STATUS_OK:
        reason = pb.ScoreStatus.Name(score.status).removeprefix("SCORE_STATUS_")
        return f"{reason.lower().replace('_', ' '):>24}"
    percentile = f"{score.percentile:3.0f} %" if score.HasField("percentile") else "     "
    return f"{score.log_prob:9.3f}  {score.bits_per_character:6.3f}  {percentile}"


def histogram(values: Sequence[float]) -> list[str]:
    """Bits a character as bars of text, one a line."""
    low, high = min(values), max(values)
    width = (high - low) / BINS or 1.0
    counts = [0] * BINS
    for value in values:
        counts[min(int((value - low) / width), BINS - 1)] += 1
    scale = WIDTH / max(counts)
    bars = [
        f"{low + i * width:6.2f}  {'#' * math.ceil(count * scale):<{WIDTH}}  {count:,}"
        for i, count in enumerate(counts)
    ]
    return [f"bits a character of {len(values):,} strings:", *bars]
