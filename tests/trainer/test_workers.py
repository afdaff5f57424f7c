"""Several processes take the steps that one would take."""

import os
import subprocess
import sys
from pathlib import Path

import torch

from trainer.run import Run
from trainer.workers import Workers, from_environment

TORCHRUN = [
    sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
]  # fmt: skip
FLAGS = [
    "--hidden", "16", "--embedding", "8", "--dropout", "0", "--weight-dropout", "0",
    "--steps", "30", "--evaluate-every", "10", "--batch-size", "33", "--threads", "1",
    "--sample-every", "0",
]  # fmt: skip


def trained(names: Path, path: Path, *launcher: str) -> Run:
    command = [*launcher, "train", "--data", str(names), "--run", str(path), *FLAGS]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("the run is in") == 1
    return Run.open(path)


def test_two_processes_give_the_weights_of_one(tmp_path: Path, names: Path) -> None:
    one = trained(names, tmp_path / "one", sys.executable, "-m", "serving")
    two = trained(names, tmp_path / "two", *TORCHRUN, "-m", "serving", "--")
    for path, twin in ((one.last, two.last), (one.best, two.best)):
        ours = one.load(path, one.config.build_model())["averaged"]
        theirs = two.load(twin, two.config.build_model())["averaged"]
        for name, weight in ours.items():
            assert float((weight - theirs[name]).abs().max()) <= 1e-5, name
    assert len(two.rows(two.metrics)) == 3


def test_the_shares_of_all_workers_are_the_batch() -> None:
    tokens = torch.arange(14).view(7, 2)
    shares = [Workers(rank, 3).share(tokens, tokens) for rank in range(3)]
    rows = torch.cat([share for share, _ in shares])
    assert sorted(rows.tolist()) == tokens.tolist()
    assert Workers().share(tokens, tokens) == (tokens, tokens)


def test_a_worker_without_strings_counts_nothing() -> None:
    tokens = torch.ones(1, 3, dtype=torch.int64)
    _, targets = Workers(2, 3).share(tokens, tokens)
    assert (targets == -1).all()


def test_a_process_that_torchrun_has_not_started_is_alone() -> None:
    assert from_environment() == Workers(0, 1)
