"""The trainer's commands as a person types them."""

import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest
from click import ClickException
from click.testing import CliRunner, Result
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from serving.cli import main
from trainer.cli import demo
from trainer.evaluate import Score
from trainer.models import MODELS
from trainer.reporter import BarReporter, PlainReporter
from trainer.run import Run
from trainer.train import leaderboard

SAY = PlainReporter.say  # which other tests do without
SMALL = ["--steps", "4", "--evaluate-every", "2", "--hidden", "8", "--embedding", "8"]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the pictures of reports, which take longer than the trainings here, to test_report."""
    monkeypatch.setattr(Figure, "savefig", lambda self, file, **settings: None)


def makemore(*arguments: str | Path, **environment: str) -> Result:
    result = CliRunner(env=environment).invoke(main, [str(a) for a in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_train_export_sample_and_evaluate_go_hand_in_hand(names: Path) -> None:
    trained = makemore("train", "--data", names, *SMALL)
    assert trained.exit_code == 0
    assert "1,000 lines, 1,000 distinct" in trained.output
    for row in ("lstm", "baseline: uniform", "baseline: unigram", "baseline: bigram"):
        assert f"\n{row} " in trained.output
    exported = makemore("export", "--name", "mine")
    assert "published exported_models/mine/1" in exported.output
    sampled = makemore("sample", "-n", "7", "--prefix", "a", "--seed", "1")
    assert len(sampled.output.splitlines()) == 7
    assert all(line.startswith("a") for line in sampled.output.splitlines())
    marked = makemore("sample", "--mark", "-n", "3").output.splitlines()
    assert {line.split()[0] for line in marked} <= {"train", "dev", "test", "new"}
    scored = makemore("evaluate", "--data", names)
    assert "1,000 strings" in scored.output
    assert makemore("evaluate").output.splitlines() == leaderboard_of(Path("runs/lstm"))


def leaderboard_of(path: Path) -> list[str]:
    run = Run.open(path)
    return leaderboard(run, run.dataset())


def test_flags_of_training_can_be_environment_variables(names: Path) -> None:
    result = makemore(
        "train", "--model", "bigram", MAKEMORE_TRAIN_DATA=str(names), MAKEMORE_TRAIN_RUN="here"
    )
    assert result.exit_code == 0
    assert Run.open(Path("here")).config.architecture == "bigram"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"\n \n\t\n", "is empty"),
        (b"a\nb\nc\n" * 9, "3 distinct lines"),
        (b"ok\n\xff\n", "line 2: not UTF-8"),
        (b"ok\na\x00b\n", "line 2: holds the control character NUL"),
        (b"ok\n" + b"x" * 513 + b"\n", "line 2: 513 characters"),
        ("\n".join(map(chr, range(0x4E00, 0x4E00 + 4097))).encode(), "alphabet of 4,097"),
        (None, "there is no such file"),
        ("folder", "is a folder"),
    ],
)
def test_bad_input_is_one_line_status_2_and_leaves_nothing(
    tmp_path: Path, content: bytes | str | None, reason: str
) -> None:
    path = tmp_path / "data.txt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        path.mkdir()
    before = everything(tmp_path)
    result = makemore("train", "--data", path)
    assert result.exit_code == 2
    assert result.output.startswith("error: ")
    assert result.output.count("\n") == 1
    assert reason in result.output
    assert everything(tmp_path) == before


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--steps", "0"], "error: --steps: must be from 1"),
        (["--learning-rate", "nan"], "--learning-rate: must be a number"),
        (["--dropout", "1"], "dropout: must be a number from 0 to 0.95"),
        (["--alpha", "1"], "alpha: 'lstm' has no such knob"),
        (["--split", "1/2/3"], "split: 1/2/3 is not three shares"),
        (["--model", "gan"], "'gan' is not one of"),
        (["--dev", "missing.txt"], "error: --dev: missing.txt: there is no such file"),
        (["--dev", "missing.txt", "--split", "80/10/10"], "leave out --split"),
        (["--backward", "manual"], "manual is written for --model mlp"),
    ],
)
def test_a_bad_flag_is_told_and_leaves_nothing(
    tmp_path: Path, arguments: list[str], reason: str
) -> None:
    result = makemore("train", *arguments)
    assert result.exit_code == 2
    assert reason in result.output
    assert everything(tmp_path) == []


def test_a_run_is_resumed_with_its_own_configuration(names: Path) -> None:
    assert makemore("train", "--data", names, *SMALL).exit_code == 0
    assert "already holds a run" in makemore("train", "--data", names).output
    refused = makemore("train", "--resume", "--seed", "9")
    assert refused.exit_code == 2
    assert "leave out --seed" in refused.output
    by_environment = makemore("train", "--resume", MAKEMORE_TRAIN_SEED="9")
    assert "leave out --seed" in by_environment.output
    assert (
        "is a run of 'lstm', not 'bigram'"
        in makemore("train", "--resume", "--model", "bigram", "--run", "runs/lstm").output
    )
    assert makemore("train", "--resume").exit_code == 0
    assert makemore("train", "--data", names, "--overwrite", *SMALL).exit_code == 0


def test_resuming_a_finished_run_says_so_and_can_train_it_for_longer(
    names: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PlainReporter, "say", lambda self, text: click.echo(text))
    assert makemore("train", "--data", names, *SMALL).exit_code == 0
    before = Path("runs/lstm/last.pt").read_bytes()
    nothing = makemore("train", "--resume")
    assert nothing.exit_code == 0
    assert (
        "\nruns/lstm is finished: it took its 4 steps. Nothing was trained. "
        "To train for longer: makemore train --resume --run runs/lstm --steps 8\n"
    ) in nothing.output
    assert Path("runs/lstm/last.pt").read_bytes() == before

    refused = makemore("train", "--resume", "--steps", "4")
    assert refused.exit_code == 2
    assert "--steps 4: runs/lstm has taken 4 steps already; give more" in refused.output
    longer = makemore("train", "--resume", "--steps", "8")
    assert longer.exit_code == 0
    assert "finished" not in longer.output
    run = Run.open(Path("runs/lstm"))
    assert run.config.training.steps == run.progress().steps == 8
    assert [row["step"] for row in run.rows(run.metrics)] == [2, 4, 6, 8]


def test_a_run_that_stopped_early_is_finished_and_can_be_trained_for_longer(
    names: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PlainReporter, "say", lambda self, text: click.echo(text))
    monkeypatch.setattr("trainer.loop.evaluate", lambda model, part: Score(3.0, 1, 1))
    assert makemore("train", "--data", names, *SMALL, "--steps", "90", "--patience", "2").output
    stopped = "it stopped at step 6 of 90, as the dev NLL no longer improved."
    assert stopped in makemore("train", "--resume").output
    longer = makemore("train", "--resume", MAKEMORE_TRAIN_STEPS="91")
    assert longer.exit_code == 0
    assert Run.open(Path("runs/lstm")).progress().steps == 10


def test_a_counted_run_is_finished_at_once(names: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PlainReporter, "say", lambda self, text: click.echo(text))
    asked = ("train", "--model", "bigram")
    assert "finished" not in makemore(*asked, "--data", names).output
    nothing = makemore(*asked, "--resume")
    assert "runs/bigram is finished: its parameters were counted." in nothing.output
    assert "leave out --steps" in makemore(*asked, "--resume", "--steps", "8").output


def test_a_preset_is_a_recipe_that_flags_go_before(names: Path) -> None:
    assert makemore("train", "--preset", "fast", "--steps", "2", "--data", names).exit_code == 0
    config = Run.open(Path("runs/gru")).config
    assert (config.architecture, config.model.hidden, config.training.steps) == ("gru", 128, 2)
    refused = makemore("train", "--preset", "fast", "--model", "lstm")
    assert "the preset 'fast' is for --model gru" in refused.output


def test_all_architectures_are_trained_in_turn(
    names: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {name: MODELS[name] for name in ("bigram", "mlp")}
    monkeypatch.setattr("trainer.cli.train.MODELS", few)
    result = makemore("train", "--model", "all", "--data", names, "--steps", "2")
    assert result.exit_code == 0
    assert {path.name for path in Path("runs/all").iterdir()} == set(few)


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ("trainer.plots.bigram_map", "ValueError: no font"),
        ("trainer.report.look_inside", "ValueError: no font"),
        ("trainer.files.write_text", "ValueError: no font"),
    ],
)
def test_a_report_that_fails_is_a_warning_of_a_finished_training(
    monkeypatch: pytest.MonkeyPatch, names: Path, broken: str, reason: str
) -> None:
    module, _, name = broken.rpartition(".")
    real = getattr(import_module(module), name)

    def failing(*given: Any) -> Any:
        if broken.endswith("write_text") and given[0].name != "report.html":
            return real(*given)
        raise ValueError("no font")

    monkeypatch.setattr(broken, failing)
    result = makemore("train", "--model", "bigram", "--data", names)
    assert result.exit_code == 0
    assert result.stderr == f"warning: cannot write runs/bigram/report.html: {reason}\n"
    assert "next: makemore export" in result.stdout
    assert "report.html" not in result.stdout


@pytest.mark.parametrize("charset", ["latin-1", "cp1252", "ascii"])
def test_samples_that_a_locale_lacks_do_not_end_a_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, charset: str
) -> None:
    monkeypatch.setattr(PlainReporter, "say", SAY)
    (tmp_path / "tamil.txt").write_text(
        "".join(f"கொ{c}\n" for c in "கசடதபறஞணநமனய"), encoding="utf-8"
    )
    asked = ["train", "--data", "tamil.txt", *SMALL]
    result = CliRunner(charset=charset).invoke(main, asked)
    assert result.exit_code == 0, result.exception
    assert charset == "ascii" or re.search(r"new +(\\u0b[0-9a-f]{2})+", result.output)
    resumed = CliRunner(charset=charset).invoke(main, ["train", "--resume"])
    assert resumed.exit_code == 0


def test_samples_on_a_terminal_are_the_strings_themselves(
    capsys: pytest.CaptureFixture[str], runs: dict[str, Run]
) -> None:
    run = runs["bigram"]
    reporter = BarReporter(run.config, run.dataset())
    try:
        reporter.say("  new    a:on:b :ok: [red]c[/red] 1234 'x'")
    finally:
        reporter.close()
    assert "  new    a:on:b :ok: [red]c[/red] 1234 'x'\n" in capsys.readouterr().out


def test_tensorboard_that_cannot_be_written_is_one_line(names: Path) -> None:
    makemore("train", "--data", names, *SMALL)
    Path("runs/lstm/tensorboard").touch()
    result = makemore("train", "--resume", "--tensorboard")
    assert result.exit_code == 2
    assert result.stderr == "error: cannot write runs/lstm/tensorboard: File exists\n"


def test_tensorboard_gets_the_figures(names: Path) -> None:
    board = makemore("train", "--data", names, *SMALL, "--tensorboard")
    assert board.exit_code == 0, board.output
    accumulator = EventAccumulator("runs/lstm/tensorboard")
    accumulator.Reload()
    found = [event.value for event in accumulator.Scalars("loss/dev")]
    run = Run.open(Path("runs/lstm"))
    assert found == pytest.approx([row["dev_nll"] for row in run.rows(run.metrics)])
    assert makemore("train", "--data", names, *SMALL, "--overwrite").exit_code == 0


def test_learning_by_heart_is_judged(names: Path) -> None:
    learned = makemore(
        "train", "--data", names, "--model", "bigram", "--overfit", "10", "--run", "heart"
    )
    assert learned.exit_code == 0
    assert "learned by heart" in learned.output
    failed = makemore("train", "--data", names, *SMALL, "--overfit", "10", "--run", "short")
    assert failed.exit_code == 1
    assert "not there; train longer" in failed.output


@pytest.mark.parametrize("command", ["sample", "evaluate", "export"])
def test_no_run_is_told_in_one_line(tmp_path: Path, command: str) -> None:
    result = makemore(command, "--run", "nowhere")
    assert (result.exit_code, result.output) == (
        2,
        "error: nowhere holds no run; train one with --run nowhere\n",
    )
    assert everything(tmp_path) == []


def test_held_out_lines_with_a_strange_character_are_named(tmp_path: Path, names: Path) -> None:
    makemore("train", "--model", "bigram", "--data", names)
    (tmp_path / "odd.txt").write_text("anna\nzoë\n")
    result = makemore("evaluate", "--run", "runs/bigram", "--data", "odd.txt")
    assert result.exit_code == 2
    assert "'zoë': the character 'ë'" in result.output


def test_the_demo_goes_the_whole_way(tmp_path: Path) -> None:
    result = makemore("demo", "--steps", "20", "--prefix", "jo", "-n", "4")
    assert result.exit_code == 0, result.output
    assert sum(line.startswith("jo") for line in result.output.splitlines()) == 4
    assert result.output.endswith("== all of it worked; the server has stopped\n")
    assert everything(tmp_path) == []


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("exit(3)", "the server did not start"),
        ("import time; print('x on h:1', flush=True); time.sleep(60)", "ended with status -15"),
    ],
)
def test_the_demo_fails_when_the_server_does(
    monkeypatch: pytest.MonkeyPatch, program: str, reason: str
) -> None:
    monkeypatch.setattr(demo, "SERVE", (sys.executable, "-c", program))
    with pytest.raises(ClickException, match=reason), demo.serving(Path()):
        pass
