import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner

from serving.cli import main
from trainer import report
from trainer.data.dataset import DataConfig
from trainer.errors import RunError
from trainer.inside import look_inside
from trainer.models import MODELS
from trainer.run import Run
from trainer.train import new_run, train


@pytest.mark.parametrize("name", MODELS)
def test_the_page_is_whole_and_needs_nothing_from_outside(runs: dict[str, Run], name: str) -> None:
    inside = look_inside(runs[name])
    page = report.page(inside)
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    pictures = re.findall(r"base64,([^\"]+)\"", page)
    counted = inside.run.config.build_model().counted
    assert len(pictures) == len(re.findall("<img", page)) >= (4 if counted else 8)
    for picture in pictures:
        assert base64.b64decode(picture).startswith(b"\x89PNG")
    HTMLParser().feed(page)


def test_activations_are_told_for_every_architecture_with_layers(runs: dict[str, Run]) -> None:
    for name, run in runs.items():
        found = look_inside(run).activations
        assert bool(found) == ("bigram" not in name), name
        assert all(values.ndim == 2 and len(values) > 100 for values in found.values()), name


def test_diagnose_writes_the_page_and_prints_each_layer(runs: dict[str, Run]) -> None:
    path = runs["mlp"].path
    result = CliRunner().invoke(main, ["diagnose", "--run", str(path)])
    assert result.exit_code == 0
    assert "hidden 0" in result.output
    assert (path / "report.html").stat().st_size > 100_000


def test_naive_weights_are_flagged(tmp_path: Path, names: Path) -> None:
    run, dataset = new_run(
        tmp_path, "mlp", DataConfig(names), {"norm": "none"},
        {"init": "naive", "steps": 10, "threads": 1, "sample_every": 0},
    )  # fmt: skip
    train(run, dataset, resume=False, is_terminal=False)
    told = " ".join(report.warnings_of(look_inside(run)))
    assert "confidently wrong" in told
    assert "saturated" in told


def test_text_from_the_data_cannot_become_markup(tmp_path: Path) -> None:
    path = tmp_path / "odd.txt"
    path.write_text("".join(f"<b>{i}&\n" for i in range(40)))
    run, dataset = new_run(tmp_path / "run", "bigram", DataConfig(path), {}, {})
    train(run, dataset, resume=False, is_terminal=False)
    assert "<b>" not in report.page(look_inside(run))


ODD = "$_^{}\\%&<>#~`|\"'*[]:@é்𝔘\u200d\ue000"


def test_characters_of_the_data_are_no_formulas(tmp_path: Path) -> None:
    path = tmp_path / "odd.txt"
    path.write_text("".join(f"{a}{b}$$x^\n" for a in ODD for b in "$_ab"), encoding="utf-8")
    run, dataset = new_run(
        tmp_path / "run", "rnn", DataConfig(path), {"hidden": 4, "embedding": 4},
        {"steps": 2, "threads": 1, "sample_every": 0},
    )  # fmt: skip
    train(run, dataset, resume=False, is_terminal=False)
    assert len(re.findall("<img", report.page(report.write(run)))) >= 8


def test_a_report_that_fails_is_one_error_that_names_the_file(
    monkeypatch: pytest.MonkeyPatch, runs: dict[str, Run]
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("no\nfont")

    monkeypatch.setattr("trainer.plots.bigram_map", broken)
    run = runs["bigram"]
    path = re.escape(str(run.path / "report.html"))
    with pytest.raises(RunError, match=f"^cannot write {path}: ValueError: no font$"):
        report.write(run)
    result = CliRunner().invoke(main, ["diagnose", "--run", str(run.path)])
    assert (result.exit_code, result.output.count("\n")) == (2, 1)
