"""`makemore status`: running servers at a glance, refreshing."""

import time
from collections.abc import Sequence
from typing import Final

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from serving import checks
from serving.errors import Unavailable
from serving.observe.glance import (
    MethodGlance,
    ModelGlance,
    ServerGlance,
    method_glances,
    model_glances,
    server_glance,
)
from serving.observe.reading import Look, look_at

METRICS: Final = "127.0.0.1:9090"
TIMEOUT: Final = 5.0
BAR: Final = 12
HIGH: Final = 0.8
"""Of what there is, from which on it is shown in another colour."""


@click.command("status")
@click.option(
    "--metrics",
    "listed",
    multiple=True,
    default=[METRICS],
    show_default=True,
    metavar="HOST:PORT",
    help="What the server has for --metrics-listen; several add up.",
)
@click.option("--interval", default=1.0, show_default=True, help="Seconds between two looks.")
@click.option("--once", is_flag=True, help="Look once, at what has been since the start.")
def command(listed: Sequence[str], interval: float, once: bool) -> None:
    """Show running servers at a glance until Ctrl-C; they need --metrics-listen."""
    checks.real("interval", interval, 0.1, 3600.0)
    console = Console(highlight=False, markup=False)
    looks = [look_at(address, TIMEOUT) for address in listed]
    begun = [Look(look.at - look.total("makemore_uptime_seconds"), {}) for look in looks]
    shown = screen(listed, looks, begun, "since the start")
    if once:
        console.print(shown)
        return
    try:
        with Live(shown, console=console, auto_refresh=False, screen=console.is_terminal) as live:
            watch(listed, looks, interval, live)
    except KeyboardInterrupt:
        pass


def watch(listed: Sequence[str], looks: list[Look], interval: float, live: Live) -> None:
    """Look again and again; servers that do not answer are waited for."""
    while True:
        time.sleep(interval)
        try:
            now = [look_at(address, TIMEOUT) for address in listed]
        except Unavailable as error:
            live.update(Text(f"{error}; trying again", style="red"), refresh=True)
            continue
        period = f"in the last {now[0].at - looks[0].at:.1f} s"
        live.update(screen(listed, now, looks, period), refresh=True)
        looks = now


def screen(
    listed: Sequence[str], now: Sequence[Look], before: Sequence[Look], period: str
) -> RenderableType:
    """All there is to see: each server, then models and methods of all of them."""
    grown = [one.since(other) for one, other in zip(now, before, strict=True)]
    servers = [server_glance(one, more) for one, more in zip(now, grown, strict=True)]
    every, more = Look.together(now), Look.together(grown)
    return Group(
        server_table(listed, servers),
        "",
        model_table(model_glances(every, more), period),
        "",
        method_table(method_glances(every, more), period),
    )


def table(title: str, texts: Sequence[str], numbers: Sequence[str]) -> Table:
    """A table whose last columns are numbers."""
    made = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for name in texts:
        made.add_column(name, no_wrap=True, header_style="dim")
    for name in numbers:
        made.add_column(name, no_wrap=True, header_style="dim", justify="right")
    return made


def server_table(listed: Sequence[str], servers: Sequence[ServerGlance]) -> Table:
    """A line a server."""
    made = table("servers", ("address", "", "pressure", ""), ("up", "processors", "memory"))
    for address, one in zip(listed, servers, strict=True):
        state = Text("ready", style="green") if one.is_ready else Text("not ready", style="red")
        made.add_row(
            *(address, state, bar(one.pressure, 1.0), f"{one.pressure:.0%}"),
            *(duration(one.uptime), f"{one.processors:.2f}", f"{one.memory / 2**20:,.0f} MiB"),
        )
    return made


def model_table(models: Sequence[ModelGlance], period: str) -> Table:
    """A line a version."""
    made = table(
        f"models, {period}",
        ("model", "architecture", "digest", "rows", ""),
        ("waiting", "strings/s", "characters/s", "step, median", "99 %", "cached"),
    )
    for one in models:
        made.add_row(
            *(one.name, one.architecture, one.digest[:8], bar(one.rows, one.capacity)),
            *(f"{one.rows:,.0f}/{one.capacity:,.0f}", seconds(one.waiting)),
            *(f"{one.strings:,.0f}", f"{one.characters:,.0f}"),
            *(seconds(one.step_median), seconds(one.step_high)),
            "-" if one.cached is None else f"{one.cached:.0%}",
        )
    return made


def method_table(methods: Sequence[MethodGlance], period: str) -> Table:
    """A line a method."""
    made = table(
        f"calls, {period}", ("method",), ("calls/s", "in flight", "median", "99 %", "ended badly")
    )
    for one in methods:
        errors = ", ".join(f"{code} {rate:,.1f}/s" for code, rate in one.errors.items())
        made.add_row(
            *(one.name, f"{one.calls:,.1f}", f"{one.in_flight:,.0f}"),
            *(seconds(one.median), seconds(one.high)),
            Text(errors, style="red") if errors else "-",
        )
    return made


def bar(value: float, most: float) -> ProgressBar:
    """How much of something is taken."""
    style = "red" if value > HIGH * most else "green"
    return ProgressBar(
        most or 1.0, value, BAR, complete_style=style, finished_style=style, style="bright_black"
    )


def seconds(value: float | None) -> str:
    """A short time, in the unit that suits it."""
    if value is None:
        return "-"
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value * 1e6:.0f} us"


def duration(value: float) -> str:
    """A long time: `3 d 4 h`, `12 min`."""
    whole = int(value)
    parts = (
        (whole // 86400, "d"),
        (whole // 3600 % 24, "h"),
        (whole // 60 % 60, "min"),
        (whole % 60, "s"),
    )
    first = next((i for i, (count, _) in enumerate(parts) if count), len(parts) - 1)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2])
