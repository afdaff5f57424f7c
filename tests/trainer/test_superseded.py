"""An export and the version it supersedes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from serving.cli import main
from serving.repository import load_version
from tests.serving.graphs import manifest, model_bytes, publish
from trainer.data.dataset import DataConfig
from trainer.data.split import Shares
from trainer.errors import ExportRefused
from trainer.export.export import export
from trainer.export.superseded import Superseded
from trainer.run import Run
from trainer.train import new_run, train

WORSE = {"alpha": 1000.0}


def bigram(path: Path, data: DataConfig, **flags: Any) -> Run:
    run, dataset = new_run(path, "bigram", data, flags, {})
    assert train(run, dataset, resume=False, is_terminal=False)
    return Run.open(path)


def exported(run: Run, repository: Path, *flags: str) -> Result:
    arguments = ["--run", str(run.path), "--repository", str(repository), *flags]
    return CliRunner().invoke(main, ["export", *arguments])


def nll(repository: Path, version: str) -> str:
    manifest = load_version(repository / version).manifest
    return f"{manifest.metrics['dev']['nll']:.4f}"


def test_a_worse_model_is_published_under_a_better_ones_name_only_if_told_so(
    tmp_path: Path, names: Path, runs: dict[str, Run]
) -> None:
    repository = tmp_path / "models"
    worse = bigram(tmp_path / "worse", DataConfig(names), **WORSE)
    assert exported(runs["bigram"], repository, "--name", "m").exit_code == 0
    better = nll(repository, "m/1")

    refused = exported(worse, repository, "--name", "m")
    assert refused.exit_code == 1
    assert refused.output.startswith("error: worse than m@1, which it would replace: dev NLL ")
    assert f"that of m@1 is {better}" in refused.output
    assert "--replace-better" in refused.output
    assert [path.name for path in (repository / "m").iterdir()] == ["1"]

    told = exported(worse, repository, "--name", "m", "--replace-better")
    assert told.exit_code == 0
    assert f"dev NLL {nll(repository, 'm/2')}, that of m@1 is {better}\n" in told.output

    again = exported(runs["bigram"], repository, "--name", "m")  # better than 2, which it follows
    assert f"dev NLL {better}, that of m@2 is {nll(repository, 'm/2')}\n" in again.output


def test_models_that_are_equally_good_supersede_each_other(
    tmp_path: Path, runs: dict[str, Run]
) -> None:
    for version in ("1", "2"):
        folder, _ = export(runs["bigram"], "m", tmp_path)
        assert folder.name == version


@pytest.mark.parametrize("other", ["data", "split", "duplicates", "dev file"])
def test_models_of_different_dev_parts_are_published_and_said_to_be_incomparable(
    tmp_path: Path, names: Path, runs: dict[str, Run], other: str
) -> None:
    lines = names.read_text(encoding="utf-8").splitlines()
    fewer, repeated, dev = (tmp_path / f"{name}.txt" for name in ("fewer", "repeated", "dev"))
    fewer.write_text("\n".join(lines[:900]), encoding="utf-8")
    repeated.write_text("\n".join(lines * 2), encoding="utf-8")
    dev.write_text("\n".join(lines[:100]), encoding="utf-8")
    data = {
        "data": DataConfig(fewer),
        "split": DataConfig(names, Shares(70, 20, 10)),
        "duplicates": DataConfig(repeated, keep_duplicates=True),
        "dev file": DataConfig(names, dev=dev),
    }[other]
    repository = tmp_path / "models"
    export(runs["bigram"], "m", repository)
    result = exported(bigram(tmp_path / "run", data, **WORSE), repository, "--name", "m")
    assert result.exit_code == 0, result.output
    assert f"that of m@1 is {nll(repository, 'm/1')}, but on another dev part (" in result.output
    assert " strings of names, SHA-256 " in result.output
    assert "cannot be compared" in result.output
    assert (repository / "m" / "2").is_dir()


def test_a_damaged_version_supersedes_nothing_as_servers_refuse_it(
    tmp_path: Path, names: Path, runs: dict[str, Run]
) -> None:
    worse = bigram(tmp_path / "worse", DataConfig(names), **WORSE)
    export(runs["bigram"], "m", tmp_path)
    damaged, _ = export(worse, "m", tmp_path, replace_better=True)
    (damaged / "model.onnx").write_bytes(b"cut")
    found = Superseded.before(tmp_path / "m" / "3")
    assert found is not None
    assert found.name == "m@1"
    with pytest.raises(ExportRefused, match="worse than m@1"):
        export(worse, "m", tmp_path)


def test_the_first_version_supersedes_none(tmp_path: Path, runs: dict[str, Run]) -> None:
    assert Superseded.before(tmp_path / "m" / "1") is None
    result = exported(runs["bigram"], tmp_path, "--name", "m")
    assert f"\ndev NLL {nll(tmp_path, 'm/1')}\n" in result.output


def test_a_version_without_a_dev_score_is_not_compared(tmp_path: Path, repository: Path) -> None:
    manifest = load_version(repository / "bigram" / "1").manifest
    foreign = replace(manifest, metrics={}, dataset={})
    superseded = Superseded("m@1", foreign)
    assert not superseded.is_comparable(foreign)
    assert "that of m@1 is not known" in superseded.comparison(manifest)


def test_the_name_of_a_model_is_that_of_its_runs_folder(
    tmp_path: Path, names: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = tmp_path / "models"
    run = bigram(tmp_path / "pairs", DataConfig(names))
    result = exported(run, repository)
    assert f"published {repository / 'pairs' / '1'};" in result.output
    assert f"serve --repository {repository} --default-model pairs" in result.output
    monkeypatch.chdir(run.path)
    result = CliRunner().invoke(main, ["export", "--run", ".", "--repository", str(repository)])
    assert f"published {repository / 'pairs' / '2'};" in result.output

    other = bigram(tmp_path / "My Run", DataConfig(names))
    refused = exported(other, repository)
    assert refused.exit_code == 2
    assert "'My Run' must be 1 to 63 of a-z" in refused.output
    assert refused.output.endswith("; give --name\n")


def test_data_that_another_version_names_cannot_steer_the_terminal(
    tmp_path: Path, runs: dict[str, Run]
) -> None:
    dataset = {"name": "\x1b]0;title\x07\n" + "x" * 1000, "sha256": "\x1b[2J"}
    publish(tmp_path, model_bytes(manifest("m", dataset=dataset)), "m", 1)
    result = exported(runs["bigram"], tmp_path, "--name", "m")
    assert result.exit_code == 0
    told = next(line for line in result.output.splitlines() if "m@1" in line)
    assert r"on another dev part (" in told
    assert r"\x1b]0;title\x07\nxxx" in told
    assert len(told) < 300
    assert all(line.isprintable() for line in result.output.splitlines())
