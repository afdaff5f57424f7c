"""Training on a GPU; skipped where torch finds none."""

from pathlib import Path

import pytest
import torch

from serving.errors import InvalidArgument
from tests.conftest import QUICK, SMALL
from trainer.data.dataset import DataConfig
from trainer.export.export import export
from trainer.models import MODELS, architecture
from trainer.train import new_run, train

NO_GPU = not torch.cuda.is_available()
gpu = pytest.mark.skipif(NO_GPU, reason="torch finds no CUDA device")


@gpu
@pytest.mark.gpu
@pytest.mark.parametrize("name", [n for n in MODELS if not architecture(n).counted])
def test_each_architecture_trains_in_mixed_precision_and_exports(
    tmp_path: Path, names: Path, name: str
) -> None:
    flags = {**QUICK, "device": "cuda"}
    run, dataset = new_run(tmp_path / "run", name, DataConfig(names), SMALL.get(name, {}), flags)
    assert train(run, dataset, resume=False, is_terminal=False)
    rows = run.rows(run.metrics)
    assert rows[-1]["dev_nll"] < rows[0]["dev_nll"] < 3.3
    _, manifest = export(run, name, tmp_path / "models")
    assert manifest.parity["max_abs_log_probability"] < 1e-4


@gpu
@pytest.mark.gpu
def test_the_same_seed_gives_the_same_weights_on_the_same_gpu(tmp_path: Path, names: Path) -> None:
    found = []
    for i in range(2):
        flags = {**QUICK, "device": "cuda"}
        run, dataset = new_run(tmp_path / f"{i}", "gru", DataConfig(names), SMALL["gru"], flags)
        train(run, dataset, resume=False, is_terminal=False)
        found.append(run.load(run.last, run.config.build_model())["model"])
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


@pytest.mark.skipif(not NO_GPU, reason="there is a CUDA device")
def test_a_gpu_that_is_not_there_is_told_and_nothing_is_written(
    tmp_path: Path, names: Path
) -> None:
    with pytest.raises(InvalidArgument, match="cuda was asked for, but torch finds no GPU"):
        new_run(tmp_path / "run", "gru", DataConfig(names), {}, {"device": "cuda"})
    assert list(tmp_path.iterdir()) == []
