"""Training a model from a data file to a finished run."""

import shlex
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from trainer.backprop import parameters_of
from trainer.config import RunConfig, knobs_of, resolve
from trainer.data.batches import Part
from trainer.data.dataset import DataConfig, Dataset, load
from trainer.environment import prepare
from trainer.evaluate import baselines, evaluate, labelled
from trainer.loop import Reporter, count, fit
from trainer.overfit import TRAINING_FLAGS as BY_HEART
from trainer.overfit import first_strings
from trainer.overfit import model_flags as forgetting
from trainer.reporter import reporter_for
from trainer.run import Run
from trainer.tensorboard import TensorBoardReporter
from trainer.training import Training
from trainer.workers import Workers


def new_run(
    path: Path,
    name: str,
    data: DataConfig,
    model_flags: Mapping[str, Any],
    training_flags: Mapping[str, Any],
    overwrite: bool = False,
    overfit: int = 0,
) -> tuple[Run, Dataset]:
    """A run's folder and its data; nothing is written before everything given is checked.

    Args:
        path: the run's folder.
        name: the architecture.
        data: what to train on.
        model_flags: knobs of the architecture that differ from their defaults.
        training_flags: fields of TrainingConfig, likewise.
        overwrite: replace a run that is there.
        overfit: train on so many strings alone, to learn them by heart; 0 for all.

    Raises:
        InvalidArgument, DataError, RunError: naming what is wrong.
    """
    if overfit:
        model_flags = {**forgetting(knobs_of(name)), **model_flags}
        training_flags = {**BY_HEART, **training_flags}
    model_config, training_config = resolve(name, model_flags, training_flags)
    prepare(training_config)
    dataset = load(data)
    if overfit:
        dataset = first_strings(dataset, overfit)
    config = RunConfig(
        architecture=name,
        model=model_config,
        training=training_config,
        alphabet=dataset.vocabulary.alphabet,
        max_length=dataset.max_length,
        dataset=dataset.about,
    )
    if training_config.backward == "manual":
        parameters_of(config.build_model())
    return Run.create(path, config, dataset, overwrite), dataset


def tensors(dataset: Dataset, config: RunConfig, device: str = "cpu") -> dict[str, Part]:
    """Each part as tensors."""
    return {part: Part(s, config.vocabulary, device) for part, s in dataset.parts.items()}


def train(
    run: Run,
    dataset: Dataset,
    resume: bool,
    is_terminal: bool,
    workers: Workers | None = None,
    tensorboard: Path | None = None,
) -> bool:
    """Train a run to its end, or until a signal; whether it was finished.

    Args:
        run: its folder and configuration.
        dataset: its strings.
        resume: go on from its last checkpoint.
        is_terminal: draw a bar.
        workers: this process among those that train it together.
        tensorboard: a folder for TensorBoard's files, if they are wanted.
    """
    config = run.config
    prepare(config.training)
    parts = tensors(dataset, config, config.training.device)
    training = Training(config.build_model(), config.training, workers)
    if resume:
        training.load_state_dict(run.load(run.last, training.model))
    if training.workers.is_first:
        run.rewind(training.step)
    bar = is_terminal and not training.model.counted and not training.is_finished
    reporter: Reporter
    reporter = reporter_for(config, dataset, training.step, bar, training.workers.is_first)
    if tensorboard:
        reporter = TensorBoardReporter(reporter, tensorboard)
    try:
        with stopping_on_signals(reporter.say) as is_stopping:
            if training.is_finished:
                reporter.say(already_finished(training, run.path))
            elif training.model.counted:
                count(training, run, parts, reporter)
            else:
                fit(training, run, parts, reporter, is_stopping)
            return training.is_finished
    finally:
        reporter.close()


def already_finished(training: Training, path: Path) -> str:
    """A line that says why there was nothing to resume, and how to train for longer."""
    if training.model.counted:
        return f"{path} is finished: its parameters were counted. Nothing was trained."
    step, steps = training.step, training.config.steps
    how = f"it took its {steps:,} steps"
    if step < steps:
        how = f"it stopped at step {step:,} of {steps:,}, as the dev NLL no longer improved"
    again = ("makemore", "train", "--resume", "--run", str(path), "--steps", str(2 * step))
    return (
        f"{path} is finished: {how}. Nothing was trained. To train for longer: {shlex.join(again)}"
    )


@contextmanager
def stopping_on_signals(say: Callable[[str], None]) -> Iterator[Callable[[], bool]]:
    """Turn the first SIGINT or SIGTERM into a wish to stop between two steps; the second ends."""
    received: list[int] = []

    def note(number: int, frame: object) -> None:
        received.append(number)
        signal.signal(number, previous[signal.Signals(number)])

    previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}

    def is_stopping() -> bool:
        if len(received) == 1:
            received.append(0)  # said once
            say("stopped between two steps")
        return bool(received)

    try:
        yield is_stopping
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def leaderboard(run: Run, dataset: Dataset) -> list[str]:
    """Lines with the exact NLL of every part beside the baselines, for a person."""
    parts = tensors(dataset, run.config)
    model = run.load_model()
    own = {name: evaluate(model, part) for name, part in parts.items()}
    guesses = baselines(parts["train"], parts, len(run.config.vocabulary))
    lines = [f"{'NLL, nats per character':<24}{'train':>10}{'dev':>10}{'test':>10}"]
    for name, scores in labelled(run.config.architecture, own, guesses):
        figures = (f"{scores[p].nll:>10.4f}" if len(parts[p]) else f"{'-':>10}" for p in parts)
        lines.append(f"{name:<24}{''.join(figures)}")
    return lines


def print_leaderboard(run: Run, dataset: Dataset) -> None:
    """Print it."""
    click.echo("\n".join(leaderboard(run, dataset)))
