"""Kills trainings at their points of writing, and looks at what is left: `killing.py FOLDER DATA KILLS`.

One process imports torch and forks for every training, so that a hundred of them take seconds.
"""

import json
import os
import random
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from trainer import files
from trainer.data.dataset import DataConfig
from trainer.errors import RunError
from trainer.reporter import PlainReporter
from trainer.run import Run
from trainer.train import new_run, train

FLAGS = {
    "steps": 12,
    "evaluate_every": 3,
    "batch_size": 32,
    "warmup": 2,
    "threads": 1,
    "sample_every": 0,
}
SMALL = {"hidden": 6, "embedding": 4, "layers": 1}


def child(work: Callable[[], object]) -> int:
    """Do some work in a fork; its exit status, negative for a signal."""
    process = os.fork()
    if process == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def fresh(path: Path, data: Path, kill_at: tuple[str, int] | None = None) -> None:
    """A new training that ends itself at the n-th passing of a point."""
    passed = 0

    def passing(point: str, path: Path) -> None:
        nonlocal passed
        if kill_at and point == kill_at[0]:
            passed += 1
            if passed == kill_at[1]:
                os.kill(os.getpid(), signal.SIGKILL)

    files.passing = passing
    run, dataset = new_run(path, "gru", DataConfig(data), SMALL, FLAGS)
    train(run, dataset, resume=False, is_terminal=False)


def go_on(path: Path, data: Path) -> None:
    """What a person would do: resume, or start anew where nothing could be resumed."""
    try:
        run = Run.open(path)
    except RunError:
        fresh(path, data)
        return
    if run.last.exists():
        train(run, run.dataset(), resume=True, is_terminal=False)
    else:  # killed before the first checkpoint was whole: nothing was trained
        run, dataset = new_run(path, "gru", DataConfig(data), SMALL, FLAGS, overwrite=True)
        train(run, dataset, resume=False, is_terminal=False)


def weights(run: Run) -> dict[str, torch.Tensor]:
    """The last weights of a run."""
    found: dict[str, torch.Tensor] = run.load(run.last, run.config.build_model())["model"]
    return found


def main(folder: Path, data: Path, kills: int) -> None:
    """Print a JSON object: how often each point was killed at, and what went wrong."""
    PlainReporter.say = lambda self, text: None  # type: ignore[method-assign]
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)  # takes a second the first time
    assert child(partial(fresh, folder / "whole", data)) == 0
    whole = Run.open(folder / "whole")
    chance, killed, wrong = random.Random(9), dict.fromkeys(files.POINTS, 0), []
    for i in range(kills):
        at = files.POINTS[i % len(files.POINTS)], chance.randint(1, 16)
        path = folder / f"killed{i}"
        if child(partial(fresh, path, data, at)) != -signal.SIGKILL:
            wrong.append(f"{at}: was not killed")
            continue
        killed[at[0]] += 1
        if child(partial(go_on, path, data)) != 0:
            wrong.append(f"{at}: cannot be gone on with")
            continue
        ours, theirs = weights(Run.open(path)), weights(whole)
        if not all(torch.equal(ours[name], theirs[name]) for name in theirs):
            wrong.append(f"{at}: other weights than an unbroken run")
        if parts := list(path.rglob("*.part")):
            wrong.append(f"{at}: left {parts[0].name}")
    print(json.dumps({"killed": killed, "wrong": wrong}))  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
