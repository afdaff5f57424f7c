"""The report's pictures: each function draws what it is given, and computes nothing that is worth a test."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trainer.diagnostics import Floats, layer_statistics, principal_plane, saturation

mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
# Characters of the data are labels: no `$` may begin a formula.
mpl.rcParams.update({"text.parse_math": False, "text.usetex": False})

WIDTH = 9.0
MOST = 40
"""Rows and columns of the bigram map; a larger alphabet is shown by its most frequent characters."""


def _figure(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def losses(
    updates: Sequence[Mapping[str, Any]],
    metrics: Sequence[Mapping[str, Any]],
    references: Mapping[str, float],
) -> Figure:
    """Training and dev loss over the steps, with lines for what simple guesses reach."""
    figure, axes = _figure(3.6)
    seen = [row for row in updates if row["loss"] is not None]
    axes.plot([r["step"] for r in seen], [r["loss"] for r in seen], lw=0.8, label="training")
    axes.plot(
        [r["step"] for r in metrics], [r["dev_nll"] for r in metrics], "o-", ms=3, label="dev"
    )
    for name, value in references.items():
        axes.axhline(value, ls="--", lw=0.8, c="gray")
        axes.annotate(f"{name} {value:.2f}", (1, value), xycoords=("axes fraction", "data"))
    axes.set(xlabel="step", ylabel="nats a character")
    axes.legend()
    return figure


def histograms(layers: Mapping[str, Floats], label: str) -> Figure:
    """The distribution of each layer's values as a line."""
    figure, axes = _figure(3.6)
    for name, values in layers.items():
        counts, edges = np.histogram(values, bins=80, density=True)
        found = layer_statistics(values)
        axes.plot(
            (edges[:-1] + edges[1:]) / 2,
            counts,
            label=f"{name}: mean {found.mean:+.2g}, deviation {found.deviation:.2g}",
        )
    axes.set(xlabel=label, ylabel="density")
    axes.legend(fontsize=7, ncols=2)
    return figure


def dead_map(layers: Mapping[str, Floats], examples: int = 64) -> Figure:
    """Units across, examples down; white where a unit is saturated. A white column is a dead unit."""
    figure = Figure(figsize=(WIDTH, 0.4 + 1.4 * len(layers)), layout="constrained")
    grid = figure.subplots(len(layers), 1, squeeze=False)
    for axes, (name, values) in zip(grid[:, 0], layers.items(), strict=True):
        axes.imshow(
            saturation(values[:examples]),
            cmap="gray",
            vmin=0,
            vmax=1,
            aspect="auto",
            interpolation="none",
        )
        found = layer_statistics(values)
        axes.set_title(f"{name}: {found.saturated:.1%} saturated, {found.dead:.1%} of units dead")
        axes.set(xlabel="unit", ylabel="example")
    return figure


def ratios(
    series: Mapping[str, Sequence[tuple[int, float]]], line: float | None, label: str
) -> Figure:
    """Log10 of a ratio over the steps, a line a matrix."""
    figure, axes = _figure(3.6)
    for name, points in series.items():
        axes.plot([step for step, _ in points], [ratio for _, ratio in points], lw=0.9, label=name)
    if line is not None:
        axes.axhline(line, c="black", ls="--", lw=0.8)
    axes.set(xlabel="step", ylabel=label)
    axes.legend(fontsize=6, ncols=3)
    return figure


def bigram_map(counts: "np.ndarray[Any, np.dtype[np.int64]]", alphabet: Sequence[str]) -> Figure:
    """How often each character (row) is followed by each (column), with the counts."""
    order = np.argsort(-counts.sum(axis=1), kind="stable")[:MOST]
    order = np.sort(order)
    shown = counts[np.ix_(order, order)]
    names = [("·" if i == 0 else alphabet[i - 1]) for i in order]
    figure, axes = _figure(WIDTH)
    axes.imshow(np.log1p(shown), cmap="Blues")
    for row, column in np.ndindex(*shown.shape):
        dark = shown[row, column] > math.sqrt(max(1, shown.max()))
        axes.text(
            column, row, f"{names[row]}{names[column]}\n{shown[row, column]}",
            ha="center", va="center", fontsize=3.6, color="white" if dark else "gray",
        )  # fmt: skip
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="next", ylabel="character (· is the boundary)")
    return figure


def embeddings(vectors: Floats, alphabet: Sequence[str]) -> Figure:
    """Each character at its place in the plane in which the vectors differ most."""
    figure, axes = _figure(5.5)
    plane = principal_plane(vectors)
    axes.scatter(plane[:, 0], plane[:, 1], s=4, c="lightgray")
    for name, (x, y) in zip(["·", *alphabet], plane, strict=True):
        axes.text(x, y, name, ha="center", va="center", fontsize=11)
    axes.set(xlabel="first direction", ylabel="second direction")
    return figure


def beside(ours: Mapping[Any, float], theirs: Mapping[Any, float], label: str) -> Figure:
    """Two distributions as bars next to each other."""
    figure, axes = _figure(2.8)
    keys = sorted(ours.keys() | theirs.keys(), key=lambda key: -theirs.get(key, 0))[:60]
    keys = sorted(keys)
    places = np.arange(len(keys))
    axes.bar(places - 0.2, [theirs.get(key, 0) for key in keys], 0.4, label="data")
    axes.bar(places + 0.2, [ours.get(key, 0) for key in keys], 0.4, label="samples")
    axes.set_xticks(places, [str(key) for key in keys])
    axes.set(xlabel=label, ylabel="share")
    axes.legend()
    return figure


def novelty(counts: Mapping[str, int]) -> Figure:
    """How many samples stand in each part, or are new."""
    figure, axes = _figure(1.6)
    axes.barh(list(counts), list(counts.values()))
    for place, count in enumerate(counts.values()):
        axes.text(count, place, f" {count:,}", va="center")
    axes.set(xlabel="samples")
    return figure
