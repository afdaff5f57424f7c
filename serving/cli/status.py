"""`makemore status`: running servers at a glance, refreshing."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
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
from serving.quoting import shown

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
    console = Console(highlight=False, markup=False, emoji=False)
    looks, errors = look_at_all(listed)
    shown = screen(looks, {}, "since the start", errors)
    if once:
        console.print(shown)
        return
    try:
        with Live(shown, console=console, auto_refresh=False, screen=console.is_terminal) as live:
            watch(listed, looks, interval, live)
    except KeyboardInterrupt:
        pass


def watch(listed: Sequence[str], looks: Mapping[str, Look], interval: float, live: Live) -> None:
    """Look again and again; servers that do not answer are waited for."""
    while True:
        time.sleep(interval)
        try:
            now, errors = look_at_all(listed)
        except Unavailable as error:
            live.update(Text(f"{error}; trying again", style="red"), refresh=True)
            continue
        spans = [now[address].at - looks[address].at for address in now.keys() & looks]
        period = f"in the last {max(spans):.1f} s" if spans else "since the start"
        live.update(screen(now, looks, period, errors), refresh=True)
        looks = now


def look_at_all(listed: Sequence[str]) -> tuple[dict[str, Look], list[str]]:
    """What each server tells, and why others tell nothing; raises Unavailable if all tell nothing."""
    looks, errors = {}, []
    with ThreadPoolExecutor(max(len(listed), 1)) as pool:  # each has the whole time
        asked = {address: pool.submit(look_at, address, TIMEOUT) for address in listed}
    for address, look in asked.items():
        try:
            looks[address] = look.result()
        except Unavailable as error:
            errors.append(str(error))
    if not looks:
        raise Unavailable("; ".join(errors))
    return looks, errors


def screen(
    now: Mapping[str, Look], before: Mapping[str, Look], period: str, errors: Sequence[str] = ()
) -> RenderableType:
    """All there is to see: each server, then models and methods of all of them.

    Args:
        now: what each server tells, by its address.
        before: what they told before; who is not there is shown since its start.
        period: the time between.
        errors: why others tell nothing.
    """
    grown = {
        address: look.since(before.get(address) or begun(look)) for address, look in now.items()
    }
    servers = [server_glance(look, grown[address]) for address, look in now.items()]
    every, more = Look.together(now.values()), Look.together(grown.values())
    return Group(
        *(Text(error, style="red") for error in errors),
        server_table(list(now), servers),
        "",
        model_table(model_glances(every, more), period),
        "",
        method_table(method_glances(every, more), period),
    )


def begun(look: Look) -> Look:
    """What the server told when it started."""
    return Look(look.at - look.total("makemore_uptime_seconds"), {})


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
            *map(shown, (one.name, one.architecture, one.digest[:8])),
            *(bar(one.rows, one.capacity), f"{one.rows:,.0f}/{one.capacity:,.0f}"),
            *(seconds(one.waiting), f"{one.strings:,.0f}", f"{one.characters:,.0f}"),
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
            *(shown(one.name), f"{one.calls:,.1f}", f"{one.in_flight:,.0f}"),
            *(seconds(one.median), seconds(one.high)),
            Text(shown(errors), style="red") if errors else "-",
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
