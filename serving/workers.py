"""Several server processes on one port: the kernel spreads connections over them (SO_REUSEPORT)."""

import asyncio
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from serving import addresses
from serving.config import ServerConfig
from serving.errors import InvalidArgument, MakemoreError, Unavailable
from serving.listening import reserved
from serving.observe.logs import configure
from serving.observe.writing import leave_at_once
from serving.server import AT_ONCE_SIGNAL, FAILED, LAST_SECONDS, Server, run_and_leave
from serving.signals import SignalThread

log = logging.getLogger(__name__)

HEEDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, AT_ONCE_SIGNAL)
"""Signals that a worker handles."""


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
        ours, theirs = zip(*(context.Pipe(duplex=False) for _ in range(count)), strict=True)
        configs = [replace(shared, observe=config.observe.of_worker(i)) for i in range(count)]
        processes = [
            context.Process(target=_work, args=(own, end))
            for own, end in zip(configs, theirs, strict=True)
        ]
        with Forwarding(processes, config) as forwarding:
            with blocked(HEEDED):  # by the workers, until they can heed them
                for process, end in zip(processes, theirs, strict=True):
                    start(process, processes)
                    end.close()
            forwarding.tell_late_workers()
            names = [_heard(end) for end in ours]
            sentinels = [process.sentinel for process in processes]
            if all(names):
                announce(names[0], address)
                wait(sentinels)
                if not forwarding.is_stopping:
                    tell_ended(processes)
            forwarding.stop(signal.SIGTERM)
            for sentinel in sentinels:
                wait([sentinel])
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


class Forwarding(SignalThread):
    """Passes signals on to the workers, and bounds their end; a context manager of the main thread.

    A worker bounds its own end. One that cannot, since it is stopped for instance, is killed.

    Args:
        processes: the workers, which are not waited for before the end.
        config: of each.

    Attributes:
        is_stopping: there was a signal to stop, or `stop` was called.
    """

    def __init__(self, processes: Sequence[BaseProcess], config: ServerConfig) -> None:
        super().__init__(self._note, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
        self.is_stopping = False
        self._processes = processes
        self._number = signal.SIGTERM.value
        self._seconds = config.lame_duck + config.grace + LAST_SECONDS + 2  # after their own bound
        self._lock = threading.Lock()

    def stop(self, number: int) -> bool:
        """Stop the workers with a signal, unless they were told before; whether they were not."""
        with self._lock:
            if self.is_stopping:
                return False
            self._number = number
            self.is_stopping = True
        self.set_timer(self._seconds, self._kill)
        self._tell(number)
        return True

    def tell_late_workers(self) -> None:
        """Repeat a signal to stop that arrived before all workers were started.

        A worker that received it already ignores the second one.
        """
        with self._lock:
            number = self._number if self.is_stopping else 0
        if number:
            self._tell(number)

    def _note(self, number: int) -> None:
        if number == signal.SIGHUP:
            self._tell(number)
        elif not self.stop(number):
            self._tell(AT_ONCE_SIGNAL)
            self.set_timer(LAST_SECONDS, self._kill)

    def _tell(self, number: int) -> None:
        for process in self._processes:
            if process.pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, number)

    def _kill(self) -> None:
        log.critical("workers do not end: they are killed")
        self._tell(signal.SIGKILL)
        leave_at_once(FAILED)


@contextmanager
def blocked(numbers: Collection[int]) -> Iterator[None]:
    """Have signals wait, those to processes that are started meanwhile until they unblock them."""
    resource_tracker.ensure_running()  # which unblocks some when it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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
        asyncio.run(run_and_leave(config, announce))
    except MakemoreError as error:
        log.error("%s", error)
        sys.exit(error.exit_status)
