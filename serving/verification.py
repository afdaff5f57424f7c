"""Models are tried out in a process of their own before they are loaded: see `serving.verifier`.

A file is hostile until shown otherwise. It is parsed, loaded into onnxruntime and stepped where it can use
up only its own memory and time, and where a crash is one more reason to refuse it.
"""

import json
import signal
import struct
import subprocess
import sys
import threading
from hashlib import sha256
from types import TracebackType
from typing import Self

from serving.environment import child_environment
from serving.errors import BadModel, Undecided

HEADER = struct.Struct(">QI")
"""What precedes a model on its way there: its length, and the most rows that it will have."""
SECONDS = 30.0
"""In which a verdict must have come, whatever the process waits for."""
MAX_LINE = 2**14

_verified: set[tuple[str, int]] = set()
"""Digests of models that were found good, each with the rows that it was tried with."""


class Verification:
    """Tries models out; a context manager, which ends the process that does it.

    The process is started for the first model that was not tried out before, and again after one that
    has ended it.

    Args:
        rows: the most rows that a model will have.
        seconds: in which a verdict must have come.
    """

    def __init__(self, rows: int, seconds: float = SECONDS) -> None:
        self._rows = rows
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()

    def verify(self, content: bytes) -> None:
        """Return if a model's file may be loaded.

        Raises:
            BadModel: it may not; the text says why.
            Undecided: there is no time or memory to try it out now.
        """
        key = (sha256(content).hexdigest(), self._rows)
        if key in _verified:
            return
        self._judge(content)
        _verified.add(key)

    def _judge(self, content: bytes) -> None:
        process = self._process = self._process or _started()
        is_late = threading.Event()

        def give_up() -> None:
            is_late.set()
            process.kill()

        timer = threading.Timer(self._seconds, give_up)
        timer.start()
        line, error = b"", None
        try:
            line = _asked(process, content, self._rows)
            error = _verdict(line)
        finally:
            timer.cancel()
            if error is None or is_late.is_set():  # there is nobody to ask any more
                self._end()
        if (
            error is None and is_late.is_set()
        ):  # processor time is bounded besides, so others took it
            error = Undecided(f"trying it out took too long: no verdict in {self._seconds:g} s")
        if error is None and line:
            error = BadModel("trying it out gave no verdict")
        if error is None and process.returncode == -signal.SIGKILL:
            error = Undecided(
                "trying it out was ended from outside, as happens when memory is short"
            )
        if error is None:
            error = BadModel(f"trying it out {how_it_ended(process.returncode)}")
        if str(error):
            raise error

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()  # nothing is lost: it has answered, or never will
            self._process.communicate()
            self._process = None


def _started() -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "serving.verifier"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=child_environment(),
        start_new_session=True,  # a terminal's Ctrl-C is for the server
    )


def _asked(process: "subprocess.Popen[bytes]", content: bytes, rows: int) -> bytes:
    """The line that the process answers; empty if it has ended."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(HEADER.pack(len(content), rows))
        process.stdin.write(content)
        process.stdin.flush()
    except BrokenPipeError:
        return b""
    return process.stdout.readline(MAX_LINE)


def _verdict(line: bytes) -> BadModel | None:
    """A verdict, without a text if it is good; None if the line, which is not trusted, has none."""
    try:
        match json.loads(line):
            case {"reason": str(reason), "is_short": True} if reason:
                return Undecided(f"{reason}, and memory is short")
            case {"reason": str(reason)}:
                return BadModel(reason)
    except (ValueError, RecursionError):
        pass
    return None


def how_it_ended(status: int) -> str:
    """How a model has ended the process that it was in, from the exit status."""
    if -status == signal.SIGXCPU:
        return "took too long"
    if status < 0:
        return f"ended the process by signal {-status}"
    return f"ended the process with status {status}"
