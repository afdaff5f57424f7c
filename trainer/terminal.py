"""Pictures of characters, for a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotext

from serving.quoting import shown

SIZE = (78, 18)


def curve(x: Sequence[float], y: Sequence[float], title: str, is_log: bool = False) -> str:
    """A line through points."""
    figure = _blank(title, is_log)
    figure.plot(list(x), list(y))
    return _text(figure)


def scatter(points: Mapping[str, tuple[float, float]], title: str, is_log: bool = False) -> str:
    """A named point for each entry."""
    figure = _blank(title, is_log)
    figure.scatter([x for x, _ in points.values()], [y for _, y in points.values()])
    for name, (x, y) in points.items():
        figure.text(f" {shown(name)}", x, y)
    return _text(figure)


def _blank(title: str, is_log: bool) -> Any:
    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plotsize(*SIZE)
    plotext.title(title)
    if is_log:
        plotext.xscale("log")
    return plotext


def _text(figure: Any) -> str:
    text: str = plotext.uncolorize(figure.build())
    return text.rstrip()
