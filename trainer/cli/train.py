"""`makemore train`."""

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from serving.quoting import printable
from trainer import report
from trainer.cli.options import (
    MODEL_FLAGS,
    TRAINING_FLAGS,
    data_option,
    flags,
    is_given,
    picked,
)
from trainer.config import knobs_of
from trainer.data.batches import Part
from trainer.data.dataset import DataConfig, Dataset
from trainer.data.split import Shares
from trainer.errors import RunError
from trainer.evaluate import evaluate
from trainer.models import MODELS
from trainer.overfit import verdict
from trainer.presets import PRESETS, Preset
from trainer.run import Run
from trainer.train import new_run, print_leaderboard, train
from trainer.workers import from_environment

INTERRUPTED = 130
ALL = "all"


@click.command("train")
@click.option(
    "--model",
    type=click.Choice([*MODELS, ALL]),
    help="Architecture; `all` for each in turn.  [default: lstm]",
)
@click.option(
    "--preset",
    type=click.Choice(list(PRESETS)),
    help="A recipe; flags given beside it go before. "
    + " ".join(f"{name}: {preset.summary}." for name, preset in PRESETS.items()),
)
@data_option
@click.option(
    "--run",
    type=click.Path(path_type=Path),
    help="Folder of the run.  [default: runs/MODEL]",
)
@click.option(
    "--split", default="80/10/10", show_default=True, help="Shares of train, dev and test."
)
@click.option(
    "--dev",
    type=click.Path(path_type=Path),
    help="File to choose the best weights with; then --data is not split.",
)
@click.option("--test", type=click.Path(path_type=Path), help="File for the final figure.")
@click.option("--keep-duplicates", is_flag=True, help="Keep a line as often as it occurs.")
@click.option(
    "--overfit",
    type=click.IntRange(min=1),
    help="Learn so many strings by heart, and tell whether it could.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with a run that was cut; with more --steps, also with a finished one.",
)
@click.option("--tensorboard", is_flag=True, help="Write figures for TensorBoard, too.")
@click.option("--overwrite", is_flag=True, help="Replace the run that is there.")
@flags(MODEL_FLAGS)
@flags(TRAINING_FLAGS)
def command(
    model: str | None,
    run: Path | None,
    resume: bool,
    overwrite: bool,
    **given: Any,
) -> None:
    """Train a model on a text file.

    Ctrl-C stops between two steps and leaves a run that can be used, and gone on with by --resume.
    Started by torchrun, every process takes a share of each batch.
    """
    if given["preset"]:
        model = model_of_preset(given["preset"], model)
    name = model or "lstm"
    path = run or Path("runs") / name
    if name != ALL:
        train_one(path, model, resume, overwrite, given)
        return
    for each in MODELS:
        click.echo(f"== {each}")
        others = set(MODEL_FLAGS) - set(knobs_of(each))
        own = {flag: None if flag in others else value for flag, value in given.items()}
        train_one(path / each, each, resume, overwrite, own)
    click.echo(f"next: makemore compare {shlex.quote(str(path))}/*")


def model_of_preset(preset: str, model: str | None) -> str:
    """The architecture of a preset, which is the only one that may be given beside it."""
    found = PRESETS[preset].architecture
    if model not in (None, found):
        raise click.UsageError(f"the preset '{preset}' is for --model {found}")
    return found


def train_one(
    path: Path, model: str | None, resume: bool, overwrite: bool, given: dict[str, Any]
) -> None:
    """Train a new run, or go on with one that is there."""
    workers = from_environment()
    workers.start(given["device"] or "cpu")
    if workers.is_first and resume:
        check_resumable(Run.open(path), model)
        lengthen(Run.open(path), given["steps"])
    elif workers.is_first:
        start(path, model or "lstm", overwrite, given)
    workers.barrier()
    opened = Run.open(path)
    dataset = opened.dataset()
    if workers.is_first:
        click.echo(dataset.summary())
        click.echo(describe(opened))
    board = path / "tensorboard" if given["tensorboard"] and workers.is_first else None
    finished = train(opened, dataset, resume, sys.stdout.isatty(), workers, board)
    workers.stop()
    if workers.is_first:
        print_leaderboard(opened, dataset)
        write_report(opened)
        conclude(path, finished)
        if "overfit" in dataset.about:
            judge_overfit(opened, dataset)


def write_report(run: Run) -> None:
    """Write the report; the training is finished without it, too."""
    try:
        report.write(run)
    except RunError as error:
        click.echo(f"warning: {printable(str(error))}", err=True)
    else:
        click.echo(f"what it looks like inside: {run.path / 'report.html'}")


def conclude(path: Path, finished: bool) -> None:
    """Say how to go on."""
    run = shlex.quote(str(path))
    if not finished:
        click.echo(f"stopped early; go on with: makemore train --resume --run {run}", err=True)
        raise SystemExit(INTERRUPTED)
    click.echo(f"the run is in {path}; next: makemore export --run {run}")


def judge_overfit(run: Run, dataset: Dataset) -> None:
    """Say whether a run learned its strings by heart; ends with status 1 if not."""
    model, strings = run.load_model(), dataset.parts["train"]
    nll = evaluate(model, Part(strings, run.config.vocabulary)).nll
    reached, line = verdict(nll, strings, model.sees)
    click.echo(line)
    if not reached:
        raise SystemExit(1)


def start(path: Path, model: str, overwrite: bool, given: dict[str, Any]) -> None:
    """Make a new run as the flags have it."""
    if given["dev"] and is_given("split"):
        raise click.UsageError("with --dev the data are not split: leave out --split")
    preset = PRESETS.get(given["preset"], Preset("", model))
    shares = Shares.parse(given["split"])
    data = DataConfig(given["data"], shares, given["dev"], given["test"], given["keep_duplicates"])
    new_run(
        path,
        model,
        data,
        {**preset.model, **picked(given, MODEL_FLAGS)},
        {**preset.training, **picked(given, TRAINING_FLAGS)},
        overwrite,
        given["overfit"] or 0,
    )


def check_resumable(run: Run, model: str | None) -> None:
    """A run keeps its configuration but for --steps: flags that would be ignored are refused."""
    if model not in (None, run.config.architecture):
        raise click.UsageError(f"{run.path} is a run of '{run.config.architecture}', not '{model}'")
    given = [
        f"--{name.replace('_', '-')}"
        for name in click.get_current_context().params
        if name not in ("model", "run", "resume", "steps", "tensorboard") and is_given(name)
    ]
    if given:
        raise click.UsageError(
            f"a resumed run keeps its configuration; leave out {', '.join(given)}"
        )


def lengthen(run: Run, steps: int | None) -> None:
    """Raise the number of steps of a run that is resumed; None leaves it."""
    if steps is None:
        return
    if run.config.build_model().counted:
        raise click.UsageError(
            f"'{run.config.architecture}' is counted in no steps; leave out --steps"
        )
    taken = run.progress().steps
    if steps <= taken:
        raise click.UsageError(
            f"--steps {steps}: {run.path} has taken {taken:,} steps already; give more than that"
        )
    run.lengthen(steps)


def describe(run: Run) -> str:
    """One line about the model."""
    parameters = run.config.build_model().num_parameters()
    knobs = ", ".join(f"{name} {value}" for name, value in vars(run.config.model).items())
    return f"{run.config.architecture}: {parameters:,} parameters ({knobs})"
