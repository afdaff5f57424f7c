"""How often two arithmetics draw different strings: `python -m benchmarks.arithmetic`.

What another kind of machine makes of the committed model can be set beside what this one makes: run with
`--save FILE` there (or under an emulator of its processor), and with `--beside FILE` here.
"""

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import click
import numpy as np
import numpy.typing as npt

from benchmarks import tables
from serving.engine.engine import Engine
from serving.engine.job import Draw, Outcome
from serving.engine.opening import open_session
from serving.engine.sampling import SamplingParameters
from serving.engine.session import OrtSession
from serving.engine.stepping import StepSession, initial_states
from serving.limits import PREFIX_CACHE
from serving.placement import CPU, DEVICES, Placement
from serving.vocabulary import BOUNDARY
from trainer.data.dataset import SHIPPED

Float64 = npt.NDArray[np.float64]
Row = list[str]

COMMITTED = Path("exported_models/names/2/model.onnx")
PATH = click.Path(path_type=Path, dir_okay=False)
SEED = 20_261_125
ROWS = 256
TEXTS, LONG = 2048, 6
BAND = 4
"""How many times the largest difference seen a guard band would be."""


@dataclass(frozen=True)
class Made:
    """What an arithmetic makes of a model.

    Attributes:
        arithmetic: its name.
        strings: drawn with one seed.
        edges: the cumulative probabilities of the next characters, after the same texts for all: [N, V].
    """

    arithmetic: str
    strings: npt.NDArray[np.str_]
    edges: Float64

    @classmethod
    def by(cls, session: StepSession, count: int) -> Self:
        """Draw so many strings."""
        return cls(session.arithmetic, np.array(drawn(session, count)), edges(session))

    def save(self, path: Path) -> None:
        """Write it to a file."""
        np.savez_compressed(path, **vars(self))

    @classmethod
    def load(cls, path: Path) -> Self:
        """From a file that `save` has written."""
        with np.load(path) as found:
            return cls(str(found["arithmetic"]), found["strings"], found["edges"])


def drawn(session: StepSession, count: int) -> list[str]:
    """Strings of one seed."""
    engine = Engine(session, ROWS, PREFIX_CACHE)
    engine.start()
    job = Draw([], count, SamplingParameters(seed=SEED), session.manifest.max_length)
    engine.submit(job)
    outcome: Outcome = job.result.result()
    engine.stop()
    return [sample.text for sample in outcome.samples]


def edges(session: StepSession) -> Float64:
    """Where draws are decided after the beginnings of many names."""
    manifest = session.manifest
    names = SHIPPED.read_text(encoding="utf-8").split()
    texts = [manifest.vocabulary.encode(name[:LONG]) for name in names if len(name) >= LONG]
    tokens = np.array([[BOUNDARY, *text] for text in texts[:TEXTS]]).T  # [LONG + 1, TEXTS]
    states, found = initial_states(manifest.states, tokens.shape[1]), []
    for token in tokens:
        logits, states = session.step(token, states)
        raw = logits.astype(np.float64)
        weights = np.exp(raw - raw.max(axis=1, keepdims=True))
        found.append((weights / weights.sum(axis=1, keepdims=True)).cumsum(axis=1))
    return np.concatenate(found)


def row(what: str, one: Made, other: Made) -> Row:
    """A line of the table, shown as soon as it is measured."""
    count = min(len(one.strings), len(other.strings))  # the first of many are those of few
    differ = int((one.strings[:count] != other.strings[:count]).sum())
    apart = np.abs(one.edges - other.edges)[:, :-1]  # the last is 1 for all
    width = BAND * apart.max()
    gaps = np.minimum(np.diff(one.edges[:, :-1], axis=1), 2 * width).sum(axis=1) + 2 * width
    line = [
        what,
        other.arithmetic,
        f"{differ} of {count:,}",
        f"{apart.max():.1e}",
        f"{apart.sum(axis=1).mean():.1e}",
        f"{gaps.mean():.1e}",
    ]
    click.echo(" | ".join(line), err=True)
    return line


def every_architecture(count: int, placement: Placement) -> Iterator[Row]:
    """Each, briefly trained: a CPU's strings beside those of PyTorch's step, a GPU's beside a CPU's."""
    # Here, so that --save needs no PyTorch: an emulator is slow.
    from benchmarks.serving import brief_run, step_graph
    from trainer.models import MODELS
    from trainer.models.base import STANDARD
    from trainer.reporter import PlainReporter
    from trainer.torch_session import TorchSession, bare_manifest

    PlainReporter.say = lambda self, text: None  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        trained = Path(
            folder
        )  # all first: on a GPU, onnxruntime may bring another cuDNN than PyTorch's
        runs = {name: brief_run(trained, name, {}, 300, placement.device) for name in MODELS}
        for name, run in runs.items():
            if placement.device == CPU:
                model = run.load_model()
                theirs: StepSession = TorchSession(model, bare_manifest(run.config, model))
                graph = step_graph(run, name)
            else:
                graph = step_graph(run, name, STANDARD)
                theirs = OrtSession(graph)
            ours = Made.by(open_session(graph, placement), count)
            yield row(name, ours, Made.by(theirs, count))


@click.command()
@click.option("--strings", default=100_000, show_default=True, help="To draw with each.")
@click.option("--device", type=click.Choice(DEVICES), default=CPU, show_default=True)
@click.option("--save", type=PATH, help="Only write what is drawn from the committed model.")
@click.option("--beside", type=PATH, multiple=True, help="A file that --save has written.")
@click.option("--write", is_flag=True, help="Put the table into benchmarks/README.md.")
def main(
    strings: int, device: str, save: Path | None, beside: tuple[Path, ...], write: bool
) -> None:
    """Draw the same strings with different arithmetics, and tell how many are not the same."""
    placement = Placement(device, rows=ROWS)
    others = [] if save else list(every_architecture(strings, placement))
    made = Made.by(open_session(COMMITTED.read_bytes(), placement), strings)
    if save:
        made.save(save)
        return
    rows = [row("lstm, committed", made, Made.load(path)) for path in beside] + others
    head = [
        "what",
        f"{made.arithmetic} beside",
        "strings that differ",
        "largest difference of an edge",
    ]
    head += ["all edges of a draw, on average", f"draws within {BAND} times the largest of an edge"]
    text = f"{tables.markdown(head, rows)}\n\n{tables.circumstances('makemore', 'torch')}"
    click.echo(text)
    if write:
        tables.write("arithmetic" if device == CPU else f"arithmetic-{device}", text)


if __name__ == "__main__":
    sys.exit(main())
