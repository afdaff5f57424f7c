"""Preparation of a server process, before anything large is imported."""

import os
import signal
import stat
from types import FrameType


def prepare_process() -> None:
    """Prepare the process of `makemore serve`: its signals, its output and the log of gRPC."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _exit_on_signal)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the repository will be read anyway
    for descriptor in (1, 2):
        make_nonblocking(descriptor)
    # The gRPC library logs every failed TLS handshake as INFO: a line for each foreign connection.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")


def _exit_on_signal(number: int, frame: FrameType | None) -> None:
    os._exit(0)  # an exception could be lost in the import of a C extension


def make_nonblocking(descriptor: int) -> None:
    """Let writes to an output fail, instead of block, while nobody reads it.

    Libraries write to standard error from threads that the server needs: a full pipe would block them, and
    the server with them. In this mode their output is lost instead. The server's own log is not: its writer,
    `serving.observe.writing`, waits for the reader in a thread of its own.

    O_NONBLOCK belongs to the open file description, which other processes may share, such as the shell that
    started this one. The output is therefore reopened, for this process and its children.
    """
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISREG(mode):
            return
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY
        reopened = os.open(f"/proc/self/fd/{descriptor}", flags)
    except OSError:  # closed, a socket, owned by another user, or no /proc
        _set_nonblocking(descriptor)
        return
    os.dup2(reopened, descriptor)
    os.close(reopened)


def _set_nonblocking(descriptor: int) -> None:
    try:
        if not os.isatty(descriptor):  # a terminal would keep the mode after the end of the process
            os.set_blocking(descriptor, False)
    except OSError:  # it is closed
        pass
