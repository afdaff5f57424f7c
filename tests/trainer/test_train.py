"""Training as a whole: repeatable, resumable, stoppable."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import QUICK, SMALL
from trainer.config import TrainingConfig
from trainer.data.dataset import DataConfig, Dataset
from trainer.errors import RunError
from trainer.models import MODELS
from trainer.models.base import CharModel
from trainer.reporter import PlainReporter
from trainer.run import Run
from trainer.schedule import SCHEDULES, learning_rate
from trainer.train import new_run, stopping_on_signals, train
from trainer.training import Training

QUIET = {**QUICK, "threads": 1}


def started(path: Path, names: Path, name: str = "lstm", **flags: Any) -> tuple[Run, Dataset]:
    return new_run(path, name, DataConfig(names), SMALL.get(name, {}), {**QUIET, **flags})


def weights(run: Run, path: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = run.load(path, run.config.build_model())["averaged"]
    return found


def assert_equal_runs(one: Run, other: Run) -> None:
    for path, twin in ((one.best, other.best), (one.last, other.last)):
        ours, theirs = weights(one, path), weights(other, twin)
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("name", MODELS)
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    tmp_path: Path, names: Path, runs: dict[str, Run], name: str
) -> None:
    again = started(tmp_path / "again", names, name)
    assert train(*again, resume=False, is_terminal=False)
    assert_equal_runs(runs[name], again[0])
    if not again[0].config.build_model().counted:
        other = started(tmp_path / "other", names, name, seed=2)
        assert train(*other, resume=False, is_terminal=False)
        with pytest.raises(AssertionError):
            assert_equal_runs(runs[name], other[0])


def cut_after(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Make the trainer die, as if killed, after a step."""

    def stepped(self: PlainReporter, done: int, loss: object, characters: int) -> None:
        if done == step:
            raise KeyboardInterrupt

    monkeypatch.setattr(PlainReporter, "stepped", stepped)


@pytest.mark.parametrize("step", [26, 49])
def test_a_killed_run_that_is_resumed_ends_as_an_unbroken_one(
    tmp_path: Path, names: Path, runs: dict[str, Run], step: int
) -> None:
    run, dataset = started(tmp_path / "cut", names)
    with pytest.MonkeyPatch.context() as patch:
        cut_after(patch, step)
        with pytest.raises(KeyboardInterrupt):
            train(run, dataset, resume=False, is_terminal=False)
    resumed = Run.open(run.path)
    assert train(resumed, resumed.dataset(), resume=True, is_terminal=False)
    assert_equal_runs(runs["lstm"], resumed)
    ours, theirs = resumed.rows(resumed.metrics), runs["lstm"].rows(runs["lstm"].metrics)
    timeless = [[{**row, "seconds": 0} for row in rows] for rows in (ours, theirs)]
    assert timeless[0] == timeless[1]


def test_a_signal_stops_between_steps_and_the_run_goes_on_where_it_was(
    tmp_path: Path, names: Path, runs: dict[str, Run]
) -> None:
    run, dataset = started(tmp_path / "stopped", names)

    def stepped(self: PlainReporter, done: int, loss: object, characters: int) -> None:
        if done == 33:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PlainReporter, "stepped", stepped)
        assert not train(run, dataset, resume=False, is_terminal=False)
    assert run.load(run.last, run.config.build_model())["step"] == 33
    assert run.load_model().num_parameters() > 0
    assert train(run, dataset, resume=True, is_terminal=False)
    assert_equal_runs(runs["lstm"], run)


def test_a_second_signal_ends_at_once() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job has none
    with stopping_on_signals(lambda text: None) as is_stopping:
        os.kill(os.getpid(), signal.SIGINT)
        assert is_stopping()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_training_stops_when_the_dev_nll_no_longer_improves(tmp_path: Path, names: Path) -> None:
    run, dataset = started(
        tmp_path / "early", names, steps=5000, evaluate_every=10, patience=2, learning_rate=1.0
    )
    assert train(run, dataset, resume=False, is_terminal=False)
    rows = run.rows(run.metrics)
    assert rows[-1]["step"] < 5000
    assert [row["is_best"] for row in rows[-3:]] == [True, False, False]


def test_metrics_and_configuration_are_in_the_folder(runs: dict[str, Run]) -> None:
    run = runs["lstm"]
    rows = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    assert [row["step"] for row in rows] == [25, 50]
    assert rows[-1]["dev_nll"] < 3.3
    config = json.loads((run.path / "config.json").read_text())
    assert config["training"]["steps"] == 50
    assert config["model"]["hidden"] == 16
    assert Run.open(run.path).config.to_dict() == run.config.to_dict()


def test_a_run_that_is_there_is_not_trained_over(names: Path, runs: dict[str, Run]) -> None:
    with pytest.raises(RunError, match="already holds a run: continue it with --resume"):
        started(runs["lstm"].path, names)


def test_a_folder_that_holds_other_things_is_not_touched(
    tmp_path: Path, names: Path, runs: dict[str, Run]
) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    for config in (None, '{"mine": 1}', (runs["lstm"].path / "config.json").read_text()):
        if config:
            (tmp_path / "config.json").write_text(config)
        with pytest.raises(RunError, match=r"holds other things than a run|cannot be read|format"):
            new_run(tmp_path, "lstm", DataConfig(names), {}, QUIET, overwrite=True)
        assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_run_whose_making_was_cut_is_made_anew(tmp_path: Path, names: Path) -> None:
    run, dataset = started(tmp_path / "run", names)
    (run.path / "config.json").unlink()
    again, _ = started(run.path, names)
    assert again.dataset().parts == dataset.parts


def test_a_run_killed_before_its_first_evaluation_can_be_resumed(
    tmp_path: Path, names: Path, runs: dict[str, Run]
) -> None:
    run, dataset = started(tmp_path / "cut", names)
    with pytest.MonkeyPatch.context() as patch:
        cut_after(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            train(run, dataset, resume=False, is_terminal=False)
    (run.path / ".last.pt.123.part").write_bytes(b"half")
    assert train(run, dataset, resume=True, is_terminal=False)
    assert_equal_runs(runs["lstm"], run)
    assert not list(run.path.glob(".*"))


def test_progress_tells_steps_and_time_even_before_an_evaluation(
    tmp_path: Path, names: Path, runs: dict[str, Run]
) -> None:
    run, dataset = started(tmp_path / "early", names, evaluate_every=1000)

    def stepped(self: PlainReporter, done: int, loss: object, characters: int) -> None:
        if done == 7:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PlainReporter, "stepped", stepped)
        assert not train(run, dataset, resume=False, is_terminal=False)
    assert (run.progress().steps, run.progress().best_step) == (7, 7)
    assert run.progress().seconds > 0
    whole = runs["lstm"].progress()
    assert (whole.steps, whole.best_step) == (50, 50)


@pytest.mark.parametrize(
    "kind",
    [
        "truncated",
        "another architecture",
        "not a checkpoint",
        "another kind",
        "another format",
        "another alphabet",
    ],
)
def test_a_checkpoint_that_is_not_the_runs_is_refused_by_name(
    tmp_path: Path, names: Path, runs: dict[str, Run], kind: str
) -> None:
    run, _ = started(tmp_path / "run", names)
    content = runs["lstm"].last.read_bytes()
    match kind:
        case "truncated":
            content, reason = content[: len(content) // 2], "is damaged or no checkpoint"
        case "another architecture":
            content, reason = runs["bigram"].last.read_bytes(), "is of the architecture 'bigram'"
        case "another kind":
            content, reason = runs["lstm"].best.read_bytes(), "is no checkpoint of this program"
        case "another format":
            found = torch.load(runs["lstm"].last, weights_only=True)
            torch.save({**found, "format": 99}, run.last)
            content, reason = run.last.read_bytes(), "has the format 99, not 1"
        case "another alphabet":
            found = torch.load(runs["lstm"].last, weights_only=True)
            torch.save({**found, "alphabet": ["x"]}, run.last)
            content, reason = run.last.read_bytes(), "has another alphabet"
        case _:
            content, reason = b"text", "is damaged or no checkpoint"
    run.last.write_bytes(content)
    with pytest.raises(RunError, match=rf"last\.pt {reason}"):
        run.load(run.last, run.config.build_model())


@pytest.mark.parametrize(
    ("schedule", "last"), [("cosine", 0.01), ("linear", 0.01), ("step", 0.1), ("constant", 1.0)]
)
def test_the_rate_rises_to_its_peak_and_follows_its_schedule(schedule: str, last: float) -> None:
    rates = [learning_rate(i, 1000, 10, 2.0, schedule) for i in range(1000)]
    assert rates[:10] == pytest.approx([2 * (i + 1) / 10 for i in range(10)])
    assert rates[10] == 2.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(2 * last, abs=3e-3)
    assert set(SCHEDULES) == {"cosine", "linear", "step", "constant"}


def test_what_is_kept_is_the_average_of_the_weights(runs: dict[str, Run]) -> None:
    model = runs["lstm"].config.build_model()
    training = Training(model, TrainingConfig(average=0.5, warmup=0, learning_rate=0.1))
    trail: list[CharModel] = []
    expected = [p.detach().clone() for p in model.parameters()]
    for step in range(12):
        training.update(torch.zeros(2, 3, dtype=torch.int64), torch.ones(2, 3, dtype=torch.int64))
        decay = min(0.5, (2 + step) / (11 + step))
        expected = [
            decay * old + (1 - decay) * new.detach()
            for old, new in zip(expected, model.parameters(), strict=True)
        ]
        trail.append(model)
    for ours, theirs in zip(training.averaged.parameters(), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_checkpoint_that_cannot_be_written_is_one_clear_line(tmp_path: Path, names: Path) -> None:
    run, _ = started(tmp_path / "run", names)
    training = Training(run.config.build_model(), run.config.training)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(RunError, match=r"cannot write .*last\.pt: File too large"):
            run.save(run.last, training.state_dict())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted(path.name for path in run.path.iterdir()) == ["config.json", "data"]


def test_a_run_killed_while_it_writes_can_be_resumed(tmp_path: Path, names: Path) -> None:
    """SIGKILL at whatever point: the folder always holds something to go on from."""
    command = [sys.executable, "-m", "serving", "train", "--data", str(names), "--run"]
    flags = ["--hidden", "8", "--embedding", "8", "--steps", "100000", "--evaluate-every", "2"]
    path = tmp_path / "run"
    with subprocess.Popen([*command, str(path), *flags], stdout=subprocess.DEVNULL) as process:
        while not (path / "best.pt").exists():
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(0.3)
        process.kill()
    run = Run.open(path)
    training = Training(run.config.build_model(), run.config.training)
    training.load_state_dict(run.load(run.last, training.model))
    assert training.step > 0
    run.rewind(training.step)
    assert run.rows(run.metrics)[-1]["step"] == training.step
