"""The state in which a server process begins, before anything large is imported."""

import os
import signal
import stat
from types import FrameType


def begin() -> None:
    """Prepare this process for `makemore serve`."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the repository is yet to be read anyway
    for descriptor in (1, 2):
        make_nonblocking(descriptor)
    # The gRPC library logs every failed TLS handshake as INFO: a line for each stranger who connects.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(0)  # an exception could be lost in the import of a C extension


def make_nonblocking(descriptor: int) -> None:
    """Let writes to an output fail while nobody reads it.

    Libraries write to the standard error themselves, in threads that the server needs: a full pipe would
    stop them, and the server with them. What they write then is lost. `serving.observe.writing`, through
    which the server's own log goes, waits for its reader in a thread of its own.

    The mode belongs to what was opened, which other processes may share, such as the shell that started
    this one. So the output is opened once more, for this process and its children.
    """
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISREG(mode):
            return
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY
        again = os.open(f"/proc/self/fd/{descriptor}", flags)
    except OSError:  # it is closed, a socket, another user's, or there is no /proc
        _set_nonblocking(descriptor)
        return
    os.dup2(again, descriptor)
    os.close(again)


def _set_nonblocking(descriptor: int) -> None:
    try:
        if not os.isatty(descriptor):  # a terminal stays in this mode after the process has ended
            os.set_blocking(descriptor, False)
    except OSError:  # it is closed
        pass
