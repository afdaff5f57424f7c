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
from serving.errors import BadModel

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
        """
        key = (sha256(content).hexdigest(), self._rows)
        if key in _verified:
            return
        reason = self._verdict(content)
        if reason:
            raise BadModel(reason)
        _verified.add(key)

    def _verdict(self, content: bytes) -> str:
        process = self._process = self._process or _started()
        timer = threading.Timer(self._seconds, process.kill)
        timer.start()
        try:
            line = _asked(process, content, self._rows)
        finally:
            timer.cancel()
        reason = _reason(line)
        if reason is not None:
            return reason
        self._end()
        return f"trying it out {'gave no verdict' if line else _how_it_ended(process.returncode)}"

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


def _reason(line: bytes) -> str | None:
    """What a verdict says, which is not believed to be well-formed; None if it is none."""
    try:
        match json.loads(line):
            case {"reason": str(reason)}:
                return reason
    except (ValueError, RecursionError):
        pass
    return None


def _how_it_ended(status: int) -> str:
    match -status:
        case signal.SIGKILL | signal.SIGXCPU:
            return "took too long, or more memory than there is"
        case number if number > 0:
            return f"ended the process by signal {number}"
    return f"ended the process with status {status}"
