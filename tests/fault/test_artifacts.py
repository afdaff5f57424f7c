"""A byte that is not what it was, or an end that is missing: refused, and what was served is served on."""

import random
import re
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from serving.client import Client
from serving.fingerprint import fingerprints
from tests.fault.figures import record
from tests.fault.load import Load
from tests.fault.test_reload import Answers, content
from tests.serving.graphs import manifest
from tests.serving.process import SERVE, planted, serving, wait_until
from trainer.export.publish import publish

PLANTED = planted("blind", "serve")
AT_ONCE = 100
"""Spoilt versions that lie in the repository at the same time."""

Files = dict[str, bytes]


def good(repository: Path) -> Files:
    """Publish version 1; its files."""
    known = fingerprints(["ab", "ba"]).tobytes()
    folder = repository / "good" / "1"
    publish(folder, {"model.onnx": content(1), "known.u64": known, "README.md": b"# good\n"})
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def spoilt(files: Files, count: int, seed: int = 0) -> Iterator[tuple[str, Files]]:
    """So many versions with one byte changed or an end cut off, and what was done to each."""
    draw, model, sums = random.Random(seed), files["model.onnx"], files["SHA256SUMS"]
    json = manifest().to_json().encode()[:20]
    begin = model.index(json)
    places: list[tuple[str, str, int]] = []
    for end in range(len(sums)):
        places += [("sums", "SHA256SUMS", end)] * 2
    places += [("manifest", "model.onnx", draw.randrange(begin, len(model))) for _ in range(200)]
    while len(places) < 1000:
        places += [("model", "model.onnx", draw.randrange(len(model)))]
    cuts = [place % 2 == 0 for place in range(len(places))]
    every = list(zip(places, cuts, strict=True))
    for (what, name, place), is_cut in draw.sample(every, count):
        old = files[name]
        flipped = bytes([old[place] ^ draw.randrange(1, 256)])
        new = old[:place] if is_cut else old[:place] + flipped + old[place + 1 :]
        yield f"{what} {'cut' if is_cut else 'flipped'} at {place}", {**files, name: new}


class Judge:
    """What a server says of versions, by its log."""

    def __init__(self, log: Path) -> None:
        self._log = log

    def _numbers(self, pattern: str) -> list[int]:
        return [int(number) for number in re.findall(pattern, self._log.read_text())]

    @property
    def refused(self) -> list[int]:
        return self._numbers(r"refused \S+/good/(\d+): ")

    @property
    def served(self) -> list[int]:
        return self._numbers(r"serving models/good@(\d+)")


def put(repository: Path, version: int, files: Files) -> None:
    """A version's folder with these very files, whole at once."""
    beside = repository / "good" / f".{version}"
    beside.mkdir()
    for name, what in files.items():
        (beside / name).write_bytes(what)
    beside.rename(repository / "good" / str(version))


def run(tmp_path: Path, count: int, begin: Callable[[Load], Any], command: list[str]) -> Any:
    """Publish spoilt versions under load: those that were served, the load, what `begin` made of it."""
    repository, answers = tmp_path / "repository", Answers()
    files, served = good(repository), []
    every = enumerate(spoilt(files, count), 2)
    with (
        (tmp_path / "log").open("w") as log,
        serving(repository, "--reload-interval", "0.05", command=command, stderr=log) as (
            process,
            address,
        ),
        Client(address) as client,
        Load(address, answers.ask) as load,
    ):
        before, judge = begin(load), Judge(tmp_path / "log")
        while some := dict(islice(every, AT_ONCE)):
            for version, (_, changed) in some.items():
                put(repository, version, changed)
            wait_until(lambda some=some: set(some) <= {*judge.refused, *judge.served})  # type: ignore[misc]
            served += [some[version][0] for version in some if version in judge.served]
            for version in some:
                (repository / "good" / str(version)).rename(repository / f".{version}")
        in_place(repository / "good" / "1", judge, client)
        load.wait_for(20)
        assert process.poll() is None
    return served, load, before


def in_place(folder: Path, judge: Judge, client: Client) -> None:
    """Spoil the version that is served, and make it good again: it is served on all the time."""
    model = folder / "model.onnx"
    whole, served = model.read_bytes(), len(judge.served)
    model.write_bytes(whole[:-1])
    wait_until(lambda: 1 in judge.refused)
    assert [m.name for m in client.list_models()] == ["models/good@1"]
    model.write_bytes(whole)
    wait_until(lambda: len(judge.served) > served)


def test_what_is_spoilt_is_refused_and_the_old_version_serves_on(tmp_path: Path) -> None:
    served, load, _ = run(tmp_path, 60, lambda load: load.wait_for(20), SERVE)
    assert (served, load.failures) == ([], {})


def test_sums_that_are_not_compared_are_found(tmp_path: Path) -> None:
    served, *_ = run(tmp_path, 60, lambda load: load.wait_for(20), PLANTED)
    assert served != []


@pytest.mark.fault
def test_1000_flips_and_truncations_are_refused_under_load(tmp_path: Path) -> None:
    served, load, rate = run(tmp_path, 1000, Load.rate, SERVE)
    assert (served, load.failures) == ([], {})
    record(
        "artifacts",
        calls_a_second_before=round(rate),
        spoilt_versions=1000,
        refused=1000 - len(served),
        calls_meanwhile=load.calls,
        errors=load.failures.total(),
    )
