"""How long training takes to a given dev NLL: `python -m benchmarks.training`."""

import sys
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks import reference, tables
from trainer.data.batches import Part
from trainer.data.dataset import SHIPPED, DataConfig, Dataset, load
from trainer.data.split import Shares
from trainer.loop import count, fit
from trainer.models import MODELS
from trainer.presets import PRESETS
from trainer.reporter import SilentReporter
from trainer.train import new_run, tensors
from trainer.training import Training

QUIET = {"sample_every": 0, "threads": 1, "evaluate_every": 50}


def seconds_to(
    target: float,
    name: str,
    model: Mapping[str, Any],
    training: Mapping[str, Any],
    data: DataConfig,
) -> tuple[float, float, float]:
    """Seconds until the dev NLL is at most `target`, then the best NLL, and the seconds in all.

    What `makemore train` does with the strings is timed: encoding, evaluations and checkpoints included.
    Infinite, where the target is not reached.
    """
    with tempfile.TemporaryDirectory() as folder:
        run, dataset = new_run(Path(folder) / "run", name, data, model, {**QUIET, **training})
        state = Training(run.config.build_model(), run.config.training)
        reached: list[float] = []
        started = time.perf_counter()  # the plain loop encodes its strings while it is timed, too
        parts = tensors(dataset, run.config)

        def is_stopping() -> bool:
            if state.best_nll <= target and not reached:
                reached.append(time.perf_counter() - started)
            return bool(reached)

        work = count if state.model.counted else partial(fit, is_stopping=is_stopping)
        work(state, run, parts, SilentReporter(run.config, dataset))
        is_stopping()
        return (
            reached[0] if reached else float("inf"),
            state.best_nll,
            time.perf_counter() - started,
        )


def reference_best(dataset: Dataset, steps: int) -> reference.Look:
    """Where the plain loop is at its best."""
    vocabulary, longest = dataset.vocabulary, dataset.max_length
    dev = Part(dataset.parts["dev"], vocabulary)
    looks = []
    for look in reference.looks(dataset.parts["train"], dev, vocabulary, longest, steps):
        click.echo(
            f"reference: step {look.step:,}  {look.seconds:.0f} s  dev {look.dev_nll:.4f}", err=True
        )
        looks.append(look)
    return min(looks, key=lambda look: look.dev_nll)


@click.command()
@click.option("--data", type=click.Path(path_type=Path), default=SHIPPED)
@click.option("--split", default="80/10/10", show_default=True)
@click.option("--keep-duplicates", is_flag=True)
@click.option("--reference-steps", default=reference.STEPS, show_default=True)
@click.option("--models", default="", help="Comma-separated.  [default: the preset, then all]")
@click.option("--write", is_flag=True, help="Put the table into benchmarks/README.md.")
def main(
    data: Path, split: str, keep_duplicates: bool, reference_steps: int, models: str, write: bool
) -> None:
    """Time every architecture, on one thread, to the best dev NLL that the plain loop reaches."""
    torch.set_num_threads(1)
    config = DataConfig(data, Shares.parse(split), keep_duplicates=keep_duplicates)
    best = reference_best(load(config), reference_steps)
    rows = [
        [
            "the plain loop, makemore's Transformer",
            f"{best.seconds:.0f} s",
            "1",
            f"{best.dev_nll:.4f}",
        ]
    ]
    names = models.split(",") if models else [*(f"preset {p}" for p in PRESETS), *MODELS]
    for name in names:
        preset = PRESETS.get(name.removeprefix("preset "))
        if preset:
            found = seconds_to(
                best.dev_nll, preset.architecture, preset.model, preset.training, config
            )
        else:
            found = seconds_to(best.dev_nll, name, {}, {}, config)
        seconds, nll, total = found
        reached = seconds < float("inf")
        rows.append(
            [
                name,
                f"{seconds:.1f} s" if reached else f"not in {total:.0f} s",
                f"{best.seconds / seconds:.1f}" if reached else "-",
                f"{nll:.4f}",
            ]
        )
        click.echo(" | ".join(rows[-1]), err=True)
    head = ["what", f"seconds to a dev NLL of {best.dev_nll:.4f}", "times faster", "dev NLL then"]
    text = (
        f"{tables.markdown(head, rows)}\n\n{tables.circumstances('makemore', 'torch')} One thread."
    )
    click.echo(text)
    if write:
        tables.write("training", text)


if __name__ == "__main__":
    sys.exit(main())
