"""Models that are tried out: what one of them does to the process is no harm to anyone."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving import verification
from serving.errors import BadModel, Undecided
from serving.verification import Verification
from tests.conftest import COMMITTED
from tests.serving.graphs import manifest, model_bytes
from tests.serving.hostile import TRIED_OUT

ROWS = 256
GOOD = model_bytes(manifest("good"))


SLOW = "a year of work"
READ = "import sys, time; sys.stdin.buffer.read(2**20)"


@pytest.fixture(scope="module")
def trial() -> Iterator[Verification]:
    with Verification(ROWS) as trial:
        yield trial


@pytest.fixture(autouse=True)
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "_verified", set())


@pytest.mark.parametrize("name", sorted(TRIED_OUT.keys() - {SLOW}))
def test_a_hostile_graph_is_refused_with_the_reason_and_the_next_is_tried_out(
    trial: Verification, name: str
) -> None:
    content, reason = TRIED_OUT[name]
    with pytest.raises(BadModel, match=reason):
        trial.verify(content)
    trial.verify(GOOD)


def test_a_graph_that_takes_too_long_is_given_up() -> None:
    content, reason = TRIED_OUT[SLOW]
    with Verification(ROWS, seconds=3.0) as trial, pytest.raises(BadModel, match=reason):
        trial.verify(content)


def test_a_good_model_is_tried_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    start = verification._started

    def counted() -> "subprocess.Popen[bytes]":
        started.append(1)
        return start()

    monkeypatch.setattr(verification, "_started", counted)
    content = (COMMITTED / "names" / "2" / "model.onnx").read_bytes()
    for rows in (ROWS, ROWS, 16):
        with Verification(rows) as trial:
            trial.verify(content)
    assert len(started) == 2


@pytest.fixture
def replaced(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Has other programs run in place of the one that tries out; tells how many were started."""

    def replace(program: str) -> list[int]:
        started: list[int] = []

        def start() -> "subprocess.Popen[bytes]":
            started.append(1)
            pipe = subprocess.PIPE
            return subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stdout=pipe)

        monkeypatch.setattr(verification, "_started", start)
        return started

    return replace


SHORT = "from serving import verifier; verifier.memory_left = lambda: 0; verifier.main()"


@pytest.mark.parametrize(
    ("program", "content", "reason"),
    [
        ("import os; os.kill(os.getpid(), 9)", GOOD, "ended from outside, as happens when memory"),
        ("import time; time.sleep(60)", GOOD, "took too long: no verdict in 5 s"),
        (SHORT, TRIED_OUT["doubling of a constant"][0], "and memory is short"),
    ],
)
def test_a_model_for_which_there_is_no_time_or_memory_is_not_judged(
    replaced: Any, program: str, content: bytes, reason: str
) -> None:
    replaced(program)
    with Verification(ROWS, seconds=5.0) as trial, pytest.raises(Undecided, match=reason):
        trial.verify(content)


@pytest.mark.parametrize(
    ("program", "content"),
    [
        ("import os; os.kill(os.getpid(), 11)", GOOD),
        ("import os; os.kill(os.getpid(), 24)", GOOD),
        ("from serving import verifier; verifier.main()", TRIED_OUT["doubling of a constant"][0]),
        (SHORT, b"no graph, however much memory there is"),
    ],
)
def test_what_a_model_itself_does_is_a_verdict(replaced: Any, program: str, content: bytes) -> None:
    replaced(program)
    with Verification(ROWS) as trial, pytest.raises(BadModel) as caught:
        trial.verify(content)
    assert type(caught.value) is BadModel


def test_a_process_that_cannot_be_started_judges_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def start() -> "subprocess.Popen[bytes]":
        raise BlockingIOError(11, "Resource temporarily unavailable")

    with Verification(ROWS) as trial:
        with monkeypatch.context() as patch:
            patch.setattr(verification, "_started", start)
            with pytest.raises(OSError, match="temporarily"):
                trial.verify(GOOD)
        trial.verify(GOOD)


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import os; os.kill(os.getpid(), 11)", "ended the process by signal 11"),
        ("import os; os.abort()", "ended the process by signal 6"),
        ("raise SystemExit(3)", "ended the process with status 3"),
        (f"{READ}; print('{{}}', flush=True); time.sleep(60)", "gave no verdict"),
        (f"{READ}; print('[' * 100_000)", "gave no verdict"),
        ("import time; time.sleep(60)", "took too long"),
    ],
)
def test_whatever_the_process_does_is_a_reason_to_refuse(
    replaced: Any, program: str, reason: str
) -> None:
    started = replaced(program)
    # The others have all the time that a busy machine may take.
    with Verification(ROWS, seconds=1.0 if reason == "took too long" else 60.0) as trial:
        for _ in range(2):
            with pytest.raises(BadModel, match=reason):
                trial.verify(b"x" * 2**20)
    assert len(started) == 2


def test_the_process_knows_no_secret_and_can_write_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAKEMORE_SECRET", "secret")
    process = verification._started()
    try:
        with Verification(ROWS) as trial:
            trial._process = process
            trial.verify(GOOD)
            folder = Path("/proc") / str(process.pid)
            assert b"secret" not in (folder / "environ").read_bytes()
            limits = (folder / "limits").read_text().splitlines()
            limited = {line[:26].strip(): line[26:].split()[:2] for line in limits[1:]}
            assert limited["Max file size"] == ["0", "0"]
            assert limited["Max core file size"] == ["0", "0"]
            assert int(limited["Max cpu time"][0]) <= 30
            assert int(limited["Max data size"][0]) < 2**30
            assert os.getpgid(process.pid) != os.getpgid(0)
    finally:
        process.kill()
        process.wait()


def test_the_process_ends_with_what_it_is_for() -> None:
    with Verification(ROWS) as trial:
        trial.verify(GOOD)
        process = trial._process
        assert process is not None
        assert process.poll() is None
    assert process.returncode == -signal.SIGKILL
