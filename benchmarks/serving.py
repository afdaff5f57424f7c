"""How fast strings are made, beside what one would use instead: `python -m benchmarks.serving`."""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import patch

import click
import torch

from benchmarks import calls, peers, processes, tables
from benchmarks.peers import Work
from serving.engine import arithmetic, compiled
from serving.engine.engine import Engine
from serving.engine.job import Draw, Outcome, Read
from serving.engine.opening import require
from serving.engine.sampling import SamplingParameters
from serving.engine.session import OrtSession
from serving.engine.stepping import StepSession
from serving.errors import NoDevice
from serving.fingerprint import fingerprint
from serving.limits import PREFIX_CACHE
from serving.placement import CPU, DEVICES
from serving.repository import load_version
from serving.sums import MODEL
from trainer.data.dataset import SHIPPED, DataConfig
from trainer.export import graph
from trainer.export.publish import publish
from trainer.models import MODELS
from trainer.models.base import FUSED
from trainer.models.transformer import Transformer
from trainer.reporter import PlainReporter
from trainer.run import Run
from trainer.torch_session import bare_manifest
from trainer.train import new_run, train

Row = list[str]
COMMITTED = Path("exported_models/names/2")
MAKEMORE = {"layers": 4, "heads": 4, "embedding": 64}
BRIEF = {"steps": 300, "evaluate_every": 300, "sample_every": 0, "threads": 1}
SCORED = 4096
WARM = 20_000
"""Strings that a tree has seen when it is called warm."""


def brief_run(folder: Path, name: str, model: dict[str, Any], steps: int, device: str = CPU) -> Run:
    """A run of an architecture with its shapes as given, trained so little that it takes no time."""
    training = {**BRIEF, "steps": steps, "evaluate_every": steps, "device": device}
    run, dataset = new_run(folder / name, name, DataConfig(SHIPPED), model, training)
    train(run, dataset, resume=False, is_terminal=False)
    return run


def step_graph(run: Run, name: str = "run", operators: str = FUSED) -> bytes:
    """The step graph of a run, as a model of that name."""
    model = run.load_model()
    model.operators = operators
    traced = graph.trace(model.for_export())
    return graph.with_manifest(traced, bare_manifest(run.config, model, name))


def drawn(engine: Engine, n: int, seeds: Iterator[int]) -> int:
    """Let an engine make so many strings: how many characters it was."""
    longest = engine.manifest.max_length
    job = Draw([], n, SamplingParameters(seed=next(seeds)), longest)
    engine.submit(job)
    outcome: Outcome = job.result.result()
    return outcome.usage.characters


@contextmanager
def warm(session: StepSession, rows: int, n: int, cache: int) -> Iterator[Work]:
    """Jobs of `n` strings, by an engine whose tree has seen WARM strings before, if it has one."""
    engine, seeds = Engine(session, rows, cache), count(1)
    engine.start()
    if cache:
        drawn(engine, WARM, seeds)
    yield lambda: drawn(engine, n, seeds)
    engine.stop()


def cold(session: StepSession, rows: int, n: int) -> Work:
    """Jobs of `n` strings, each by an engine of its own."""
    seeds = count(1)

    def work() -> int:
        engine = Engine(session, rows, PREFIX_CACHE)
        engine.start()
        made = drawn(engine, n, seeds)
        engine.stop()
        return made

    return work


def not_compiled(work: Work) -> Work:
    """The same with numpy in the place of the loops in C."""

    def plain() -> int:
        with patch.object(compiled, "library", lambda: None):
            return work()

    return plain


def row(what: str, beside: str, ours: float, theirs: float) -> Row:
    """A line of the table, shown as soon as it is measured."""
    line = tables.beside(what, beside, ours, theirs, "characters/s")
    click.echo(" | ".join(line), err=True)
    return line


def against_peers(folder: Path) -> Iterator[Row]:
    """The Transformer of makemore's default size, the same weights everywhere, one thread."""
    run = brief_run(folder, "transformer", MAKEMORE, 300)
    model, session = run.load_model(), OrtSession(step_graph(run))
    assert isinstance(model, Transformer)
    ctranslate2 = peers.ctranslate2(model, "".join(run.config.alphabet))
    for rows, n in ((1, 100), (32, 2000), (256, 8000)):
        what = f"Transformer of makemore's size, {rows} rows"
        with (
            warm(session, rows, n, 0) as no_tree,
            warm(session, rows, n, PREFIX_CACHE) as tree,
        ):
            plain, ours, theirs = peers.rates(no_tree, tree, ctranslate2(rows, n))
        yield row(f"{what}, no tree", "CTranslate2", plain, theirs)
        yield row(f"{what}, tree, warm", "CTranslate2", ours, theirs)
    with warm(session, 32, 2000, 0) as no_tree:
        ours, theirs = peers.rates(no_tree, peers.torch_loop(model, 32), repeats=3)
    yield row("the same, 32 rows, no tree", "PyTorch's loop without a cache", ours, theirs)


def against_bare_steps(folder: Path) -> Iterator[Row]:
    """Every architecture with its default shape, 64 rows, no tree."""
    for name in MODELS:
        model = step_graph(brief_run(folder, name, {}, 2), name)
        publish(folder / "repository" / name / "1", {MODEL: model})
        session = OrtSession(model)
        with warm(session, 64, 4000, 0) as work:
            ours, theirs = peers.rates(work, peers.bare(session, 64))
        yield row(f"{name}, 64 rows, no tree", "bare session.run, 64 rows", ours, theirs)


def with_the_tree(session: StepSession) -> Iterator[Row]:
    """The committed model: what computing a prefix once is worth."""
    best, beside = peers.best_bare(session), "bare session.run, best rows"
    for n, repeats in ((1000, 21), (100_000, 7)):
        what, work = f"{n:,} strings at once, tree from cold", cold(session, 256, n)
        ours, theirs = peers.rates(work, best, repeats=repeats)
        yield row(what, beside, ours, theirs)
    ours, theirs = peers.rates(work, not_compiled(work), repeats=3)
    yield row(what, "the same, loops not compiled", ours, theirs)
    with warm(session, 256, 1000, PREFIX_CACHE) as work:
        ours, theirs = peers.rates(work, best)
    yield row("1,000 strings at once, tree warm", beside, ours, theirs)
    names = SHIPPED.read_text(encoding="utf-8").split()
    texts = [
        session.manifest.vocabulary.encode(name)
        for name in sorted(names, key=fingerprint)[:SCORED]  # in no order
    ]
    characters = sum(len(text) + 1 for text in texts)

    def score() -> int:
        engine = Engine(session)
        engine.start()
        job = Read(texts)
        engine.submit(job)
        job.result.result()
        engine.stop()
        return characters

    ours, theirs = peers.rates(score, peers.bare(session, 256))
    yield row(
        f"Score of {SCORED:,} names, tree from cold", "bare session.run, 256 rows", ours, theirs
    )


def on_the_cpu(folder: Path) -> Iterator[Row]:
    """All that is measured there."""
    yield from against_peers(folder / "peers")
    yield from against_bare_steps(folder / "bare")
    yield from with_the_tree(load_version(COMMITTED).session)
    repository = COMMITTED.parent.parent
    yield from calls.rows(repository)
    yield from processes.rows(repository, folder / "bare" / "repository")


def on_a_device(device: str, folder: Path) -> Iterator[Row]:
    """The engine beside bare steps, few rows and many."""
    from benchmarks import on_device  # which needs what is above

    for rows in (64, 256):
        yield from on_device.rows(device, folder / str(rows), rows)


@click.command()
@click.option("--write", is_flag=True, help="Put the tables into benchmarks/README.md.")
@click.option(
    "--device",
    type=click.Choice(DEVICES),
    default=CPU,
    show_default=True,
    help="cuda: the engine beside bare steps on the GPU, and nothing else.",
)
def main(write: bool, device: str) -> None:
    """Measure the engine and the server beside their peers, one after the other in one run."""
    try:
        require(device)
    except NoDevice as error:
        raise click.ClickException(str(error)) from None
    is_cpu = device == CPU
    if is_cpu and find_spec("ctranslate2") is None:
        raise click.ClickException("the peer CTranslate2 is not there: pip install -e '.[bench]'")
    torch.set_num_threads(1)
    PlainReporter.say = lambda self, text: None  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        rows = list(on_the_cpu(Path(folder)) if is_cpu else on_a_device(device, Path(folder)))
    head = ["what", "beside", "ours", "theirs", "ratio"]
    packages = ("onnxruntime", "ctranslate2", "grpcio") if is_cpu else ("onnxruntime-gpu",)
    where = tables.circumstances("makemore", *packages, "torch")
    text = f"{tables.markdown(head, rows)}\n\n{where if is_cpu else f'{arithmetic.gpu()}; {where}'}"
    click.echo(text)
    if write:
        tables.write("serving" if is_cpu else f"serving-{device}", text)


if __name__ == "__main__":
    sys.exit(main())
