from pathlib import Path

import pytest

from tests.fault import figures


def test_a_faults_figures_are_those_that_were_last_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "FOLDER", tmp_path / "new")
    figures.record("reload", reloads=50)
    figures.record("reload", reloads=51, errors=0)
    figures.record("artifacts", refused=1000)
    assert figures.recorded(tmp_path / "new") == {
        "artifacts": {"refused": 1000},
        "reload": {"reloads": 51, "errors": 0},
    }
    assert len(list((tmp_path / "new").iterdir())) == 2
