"""Several server processes on one port: the kernel spreads connections over them (SO_REUSEPORT)."""

import asyncio
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType

from serving import addresses
from serving.config import ServerConfig
from serving.errors import InvalidArgument, MakemoreError, Unavailable
from serving.listening import reserved
from serving.observe.logs import configure
from serving.server import AT_ONCE_SIGNAL, Server, run

log = logging.getLogger(__name__)


def serve(config: ServerConfig, count: int, announce: Callable[[str, str], None]) -> int:
    """Serve with `count` processes until SIGTERM or SIGINT; the exit status.

    When one of them ends by itself, the others are stopped, and the status is not 0.

    Args:
        config: how each of them serves.
        count: how many.
        announce: called with the models' names and the address once all of them serve.

    Raises:
        InvalidArgument: the address is a Unix socket, which processes cannot share.
        Unavailable: the port cannot be bound, or a process cannot be started.
    """
    if addresses.unix_path("listen", config.listen) is not None:
        raise InvalidArgument("workers", "must be 1 with a Unix socket, which cannot be shared")
    context = multiprocessing.get_context("spawn")
    with reserved("listen", config.listen) as port:
        address = addresses.with_port(config.listen, port)
        shared = replace(config, listen=address, is_shared=True)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # which they inherit, until they can heed it
        ours, theirs = zip(*(context.Pipe(duplex=False) for _ in range(count)), strict=True)
        configs = [replace(shared, observe=config.observe.of_worker(i)) for i in range(count)]
        processes = [
            context.Process(target=_work, args=(own, end))
            for own, end in zip(configs, theirs, strict=True)
        ]
        for process, end in zip(processes, theirs, strict=True):
            start(process, processes)
            end.close()
        stopping = forward(processes)
        names = [_heard(end) for end in ours]
        if all(names):
            signal.signal(signal.SIGHUP, lambda number, frame: tell(processes, number))
            announce(names[0], address)
            wait([process.sentinel for process in processes])
            if not stopping.is_set():
                tell_ended(processes)
        for process in processes:
            if not stopping.is_set():  # a second signal would end what is under way
                process.terminate()
        for process in processes:
            process.join()
    return max(abs(process.exitcode or 0) for process in processes)


def start(process: BaseProcess, others: Sequence[BaseProcess]) -> None:
    """Start one of the processes; raises Unavailable, and stops the others, where the machine has no more."""
    try:
        process.start()
    except OSError as error:
        for other in others:
            if other.pid is not None:
                other.terminate()
        raise Unavailable(
            f"cannot start {len(others)} workers: {error.strerror}; choose fewer with --workers"
        ) from None


def tell_ended(processes: Sequence[BaseProcess]) -> None:
    """Log which of them have ended by themselves, and how."""
    for number, process in enumerate(processes):
        if status := process.exitcode:
            how = f"with status {status}" if status > 0 else f"by signal {-status}"
            log.critical("worker %d ended %s: the others are stopped", number, how)


def tell(processes: Sequence[BaseProcess], number: int) -> None:
    """Send a signal to those that run."""
    for process in processes:
        if process.is_alive() and process.pid is not None:
            os.kill(process.pid, number)


def forward(processes: Sequence[BaseProcess]) -> threading.Event:
    """Pass on the signals that stop a server; set once there was one. A second one ends it at once."""
    stopping = threading.Event()

    def pass_on(number: int, frame: FrameType | None) -> None:
        is_second = stopping.is_set()
        stopping.set()
        tell(processes, AT_ONCE_SIGNAL if is_second else number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)
    return stopping


def _heard(end: Connection) -> str:
    try:
        name: str = end.recv()
    except EOFError:  # it has ended
        return ""
    return name


def _work(config: ServerConfig, end: Connection) -> None:
    """A process: its own session, so that a terminal's Ctrl-C comes to it once, from its parent."""
    os.setsid()
    configure(config.observe, worker=True)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def leave_with_parent() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=leave_with_parent, daemon=True).start()

    def announce(server: Server) -> None:
        end.send(server.summary)
        end.close()

    try:
        asyncio.run(run(config, announce))
    except MakemoreError as error:
        log.error("%s", error)
        sys.exit(error.exit_status)
