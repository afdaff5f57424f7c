"""`report.html`: one page, pictures inside, that lets one see into a training."""

import base64
import html
import io
import math
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from matplotlib.figure import Figure

from trainer import diagnostics, files, plots
from trainer.data.split import PARTS
from trainer.errors import RunError
from trainer.inside import Inside, look_inside
from trainer.run import Run

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222 }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1, h2 { line-height: 1.2 }
h2 { margin-top: 2.5rem }
img { width: 100% }
table { border-collapse: collapse }
td, th { padding: .2rem .8rem; text-align: right; border-bottom: 1px solid #ddd }
td:first-child { text-align: left }
.flag { background: #fff4d6; border-left: 4px solid #e0a100; padding: .5rem 1rem }
.well { background: #e8f6ea; border-left: 4px solid #3a9a4a; padding: .5rem 1rem }
.names { columns: 4; font-family: ui-monospace, monospace }
.new { color: #1b6e2a }
.train { color: #999 }
"""


@dataclass(frozen=True)
class Section:
    """A heading, a line on what to look for, and what is shown: a picture or HTML."""

    title: str
    about: str
    shown: Figure | str


def write(run: Run) -> Inside:
    """Look into a run and put the report into its folder.

    Raises:
        RunError: the report could not be made or written, whatever the reason.
    """
    path = run.path / "report.html"
    try:
        inside = look_inside(run)
        files.write_text(path, page(inside))
    except RunError:
        raise
    except Exception as error:  # a library's: what it could not draw is data
        reason = " ".join(str(error).split()) or "no reason was given"
        raise RunError(f"cannot write {path}: {type(error).__name__}: {reason}") from error
    return inside


def page(inside: Inside) -> str:
    """The page's HTML."""
    config = inside.run.config
    title = f"{config.architecture} on {config.dataset['name']}"
    body = "".join(_section(section) for section in sections(inside))
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title>"
        f"<style>{STYLE}</style><h1>{html.escape(title)}</h1>{_verdict(inside)}{body}</html>\n"
    )


def sections(inside: Inside) -> Iterator[Section]:
    """Whatever there is to show of a run."""
    config = inside.run.config
    yield Section("Scores", "Nats a character; less is better.", _scores(inside))
    if inside.updates:
        yield from _training_sections(inside)
    if inside.activations:
        yield from _layer_sections(inside)
    yield Section(
        "Which character follows which",
        "Counts in the training part. A network has to find this table, and what lies beyond it.",
        plots.bigram_map(inside.bigram, config.alphabet),
    )
    if inside.embedding is not None:
        yield Section(
            "What the network thinks alike",
            "Characters that stand near each other are used alike: look for the vowels.",
            plots.embeddings(inside.embedding, config.alphabet),
        )
    yield from _sample_sections(inside)


def _training_sections(inside: Inside) -> Iterator[Section]:
    score = inside.scores["train"]
    yield Section(
        "Loss",
        "It should begin at ln V, the cost of guessing evenly, and fall. Dropout makes training's loss "
        "the higher one; where dev rises while training falls, the data are being learned by heart.",
        plots.losses(inside.updates, inside.metrics, {"ln V": _even(inside), "kept": score.nll}),
    )
    yield Section(
        "Updates",
        "How far a step moves each matrix, by its own size, in powers of ten. About -3 is healthy: far "
        "above it training is restless, far below it hardly moves.",
        plots.ratios(inside.update_ratios(), -3.0, "log10 of update / data"),
    )
    yield Section(
        "Gradients by size of the weights",
        "A matrix whose line lies far above the others is pulled harder than they are.",
        plots.ratios(inside.gradient_ratios(), None, "log10 of gradient / data"),
    )
    yield Section(
        "Gradients",
        "Their distribution in one batch. All layers should be of like width: a much narrower one "
        "learns late, a much wider one is unstable.",
        plots.histograms(inside.gradients, "gradient"),
    )


def _layer_sections(inside: Inside) -> Iterator[Section]:
    yield Section(
        "Activations",
        "What each layer puts out for one batch. Heaps at -1 and 1 are saturated units, through which no "
        "gradient flows; a single narrow peak at 0 is a layer that does nothing.",
        plots.histograms(inside.activations, "activation"),
    )
    bounded = {
        name: values for name, values in inside.activations.items() if abs(values).max() <= 1
    }
    if bounded:
        yield Section(
            "Saturated units",
            "White where a unit is beyond 0.97. A column that is all white is a dead unit.",
            plots.dead_map(bounded),
        )


def _sample_sections(inside: Inside) -> Iterator[Section]:
    marks = Counter(inside.marks)
    strings = inside.dataset.parts["train"]
    yield Section("Samples", "New ones in green.", _names(inside))
    yield Section(
        "How many are new",
        "Of all samples, those that stand in the data, and those that the network made up.",
        plots.novelty({name: marks[name] for name in (*PARTS, "new")}),
    )
    for label, shares in (
        ("length", diagnostics.length_shares),
        ("character", diagnostics.letter_shares),
    ):
        ours, theirs = shares(inside.samples), shares(strings)
        yield Section(
            f"Samples beside data: {label}",
            f"They differ by {diagnostics.distance(ours, theirs):.1%}.",
            plots.beside(ours, theirs, label),
        )


def _even(inside: Inside) -> float:
    return math.log(len(inside.run.config.vocabulary))


def _verdict(inside: Inside) -> str:
    found = warnings_of(inside)
    if not found:
        return "<p class=well>Nothing looks miscalibrated.</p>"
    return "".join(f"<p class=flag>{html.escape(line)}</p>" for line in found)


def warnings_of(inside: Inside) -> list[str]:
    """What is miscalibrated, in words."""
    return diagnostics.flags(
        inside.first_loss,
        len(inside.run.config.vocabulary),
        {name: diagnostics.layer_statistics(v) for name, v in inside.activations.items()},
        inside.typical_updates(),
        inside.scores["train"].nll,
        inside.scores["dev"].nll,
    )


def _scores(inside: Inside) -> str:
    rows = "".join(
        f"<tr><td>{name}<td>{score.nll:.4f}<td>{score.strings:,}<td>{score.characters:,}"
        for name, score in inside.scores.items()
    )
    return f"<table><tr><th>part<th>NLL<th>strings<th>characters{rows}</table>"


def _names(inside: Inside) -> str:
    shown = zip(inside.samples[:80], inside.marks[:80], strict=True)
    lines = (f"<div class={mark}>{html.escape(text)}</div>" for text, mark in shown)
    return f"<div class=names>{''.join(lines)}</div>"


def _section(section: Section) -> str:
    shown = section.shown if isinstance(section.shown, str) else _image(section.shown)
    return f"<h2>{html.escape(section.title)}</h2><p>{html.escape(section.about)}</p>{shown}"


def _image(figure: Figure) -> str:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # shown as a box, which is no error
        figure.savefig(buffer, format="png", dpi=150)
    return (
        f'<img alt="" src="data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}">'
    )
