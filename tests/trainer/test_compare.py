from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from serving.cli import main
from trainer import terminal
from trainer.compare import bootstrap
from trainer.data.batches import Part
from trainer.data.dataset import DataConfig
from trainer.data.split import Shares
from trainer.evaluate import evaluate, string_nlls
from trainer.lr_find import propose
from trainer.run import Run
from trainer.train import new_run, train


def test_string_nlls_add_up_to_the_score(runs: dict[str, Run]) -> None:
    run = runs["gru"]
    model, part = run.load_model(), Part(run.dataset().parts["dev"], run.config.vocabulary)
    nlls = string_nlls(model, part)
    assert len(nlls) == len(part)
    assert nlls.sum() / part.characters == pytest.approx(evaluate(model, part).nll)


def test_the_interval_holds_the_mean_and_is_as_wide_as_theory_says() -> None:
    values = np.random.default_rng(1).normal(10, 2, 900)
    low, high = bootstrap(values)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * 2 / 30, rel=0.15)


def test_the_leaderboard_has_the_best_first(runs: dict[str, Run]) -> None:
    paths = [str(runs[name].path) for name in ("bigram", "lstm", "mlp")]
    result = CliRunner().invoke(main, ["compare", *paths])
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    scores = [float(line.split()[2]) for line in lines[1:4]]
    assert scores == sorted(scores)
    assert "characters a second" in result.output
    assert "cannot be compared" not in result.output


def test_runs_of_one_name_are_told_apart_and_other_data_are_pointed_out(
    tmp_path: Path, names: Path, runs: dict[str, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bigram"
    run, dataset = new_run(path, "bigram", DataConfig(names, Shares(70, 10, 20)), {}, {})
    assert train(run, dataset, resume=False, is_terminal=False)
    monkeypatch.setattr(terminal, "scatter", lambda points, *_, **__: f"drawn {sorted(points)}")
    both = [str(path), str(runs["bigram"].path)]
    result = CliRunner().invoke(main, ["compare", *both])
    assert result.exit_code == 0, result.output
    assert f"drawn {sorted(both)}" in result.output
    assert "measured on different strings: their NLLs cannot be compared" in result.output


def test_the_rate_proposed_is_below_the_one_of_the_least_loss() -> None:
    assert propose([0.001, 0.01, 0.1], [3.0, 2.0, 9.0]) == pytest.approx(0.01 / 3)


def test_the_sweep_is_drawn_and_a_rate_proposed(names: object) -> None:
    asked = ["lr-find", "--model", "mlp", "--steps", "60", "--data", str(names)]
    result = CliRunner().invoke(main, asked)
    assert result.exit_code == 0, result.output
    assert "loss by learning rate" in result.output
    rate = float(result.output.split("--learning-rate ")[1].split()[0])
    assert 1e-4 < rate < 0.5
    refused = CliRunner().invoke(main, ["lr-find", "--model", "bigram", "--data", str(names)])
    assert "counted, not trained" in refused.output
