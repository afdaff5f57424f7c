"""Every figure that is printed or published is that of the weights that are saved."""

import re
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from serving.cli import main
from serving.repository import load_version
from trainer.compare import standing
from trainer.data.split import PARTS
from trainer.export.parity import score_stepwise
from trainer.inside import look_inside
from trainer.models import MODELS
from trainer.run import Run

Figures = dict[str, float]


def fresh(run: Run) -> Figures:
    """The NLL of every part of the weights in best.pt, from batches of one length without padding."""
    model = run.config.build_model()
    model.load_state_dict(torch.load(run.best, weights_only=True)["averaged"])
    model.eval()
    found = {}
    for part, strings in run.dataset().parts.items():
        total, characters = 0.0, 0
        for _, equally_long in groupby(sorted(strings, key=len), key=len):
            ids = torch.tensor([run.config.vocabulary.encode(s) for s in equally_long])  # [B, T]
            boundary = torch.zeros(len(ids), 1, dtype=torch.int64)
            targets = torch.cat([ids, boundary], dim=1)  # [B, T+1]
            with torch.no_grad():
                logits = model(torch.cat([boundary, ids], dim=1)).double()
            total -= logits.log_softmax(-1).gather(2, targets[..., None]).sum().item()
            characters += targets.numel()
        found[part] = total / characters
    return found


def in_table(lines: list[str], label: str) -> Figures:
    """The row of a table whose first cell is the label, of which there is one alone."""
    rows = [re.split(r"\s{2,}|\s*\|\s*", line.strip("| ")) for line in lines]
    (figures,) = [row[1:] for row in rows if row[0] == label]
    return dict(zip(PARTS, map(float, figures), strict=True))


def of_file(folder: Path, run: Run) -> Figures:
    """The NLL of every part, of the exported graph step by step."""
    session = load_version(folder).session
    found = {}
    for part, strings in run.dataset().parts.items():
        encoded = [session.manifest.vocabulary.encode(string) for string in strings]
        total = 0.0
        for ids, logits in zip(encoded, score_stepwise(session, encoded, 64), strict=True):
            rows = logits.astype(float)
            rows -= np.log(np.exp(rows).sum(axis=1, keepdims=True))
            total -= rows[np.arange(len(rows)), [*ids, 0]].sum()
        found[part] = total / sum(len(ids) + 1 for ids in encoded)
    return found


@pytest.mark.parametrize("name", MODELS)
def test_published_figures_are_those_of_the_saved_weights(
    runs: dict[str, Run], repository: Path, name: str
) -> None:
    run, folder = runs[name], repository / name / "1"
    wanted = fresh(run)
    exact, rounded = (pytest.approx(wanted, abs=d) for d in (1e-6, 0.51e-4))

    best = [row["dev_nll"] for row in run.rows(run.metrics) if row["is_best"]]
    assert best[-1] == pytest.approx(wanted["dev"], abs=1e-6)
    printed = CliRunner().invoke(main, ["evaluate", "--run", str(run.path)]).output.splitlines()
    assert in_table(printed, name) == rounded
    assert standing(run).per_character == pytest.approx(wanted["test"], abs=1e-6)
    assert {part: score.nll for part, score in look_inside(run).scores.items()} == exact

    manifest = load_version(folder).manifest
    assert {part: manifest.metrics[part]["nll"] for part in PARTS} == exact
    card = (folder / "README.md").read_text(encoding="utf-8").splitlines()
    assert in_table(card, name) == rounded
    assert of_file(folder, run) == pytest.approx(wanted, abs=1e-4)

    # The baselines are told apart from a model of the same name, whose figures differ.
    for guess, scores in manifest.metrics["baselines"].items():
        told = pytest.approx({part: scores[part]["nll"] for part in PARTS}, abs=0.51e-4)
        assert in_table(printed, f"baseline: {guess}") == told
        assert in_table(card, f"baseline: {guess}") == told
        assert told != wanted
