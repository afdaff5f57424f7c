"""Options of `makemore serve` that tell what is to be seen of it."""

from typing import Any

import click

from serving.observe.config import FORMATS, LEVELS, ObserveConfig

OBSERVING = (
    click.option(
        "--metrics-listen",
        default="",
        metavar="HOST:PORT",
        help="Where /metrics, /healthz and /readyz are; worker i is at PORT + i.  [default: nowhere]",
    ),
    click.option(
        "--log-format",
        type=click.Choice(FORMATS),
        default="text",
        show_default=True,
        help="Lines for people, or JSON.",
    ),
    click.option(
        "--log-level",
        type=click.Choice(LEVELS),
        default="info",
        show_default=True,
        help="The least that is logged.",
    ),
    click.option("--access-log", is_flag=True, help="Log each call when it ends."),
    click.option(
        "--trace",
        is_flag=True,
        help="Tell OpenTelemetry of each call, as OTEL_* say where; needs the extra otel.",
    ),
)


def observing_of(given: dict[str, Any]) -> ObserveConfig:
    """The configuration that the options' values make, which are taken out of `given`."""
    names = ("metrics_listen", "log_format", "log_level", "access_log", "trace")
    return ObserveConfig(**{name: given.pop(name) for name in names})
