"""The engines' process, as it is seen from the server."""

import asyncio
import logging
import select
import signal
import socket
import subprocess
import sys
import threading
import weakref
from contextlib import ExitStack, suppress
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.apart.beat import Beat
from serving.apart.frames import AT_ONCE, Frames, framed, received
from serving.apart.remote import RemoteEngine
from serving.config import ServerConfig
from serving.constraints.taken import Known
from serving.engine.stepping import States, StepSession
from serving.environment import child_environment
from serving.errors import ServingError, Unavailable
from serving.manifest import Manifest
from serving.verification import how_it_ended
from serving.watchdog import LOOK

log = logging.getLogger(__name__)

PROGRAM: tuple[str, ...] = ("-P", "-m", "serving.apart.main")
LAST_WORDS = 1.0
"""Seconds in which the process is to end when it is told to, or has closed its connections."""
CRASHES = {
    *(signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE),
    *(signal.SIGABRT, signal.SIGTRAP, signal.SIGSYS),
}
"""Signals that end a process because of what it does itself."""


class RemoteSession:
    """A session of the engines' process; see StepSession."""

    def __init__(
        self, engines: "RemoteEngines", number: int, manifest: Manifest, arithmetic: str
    ) -> None:
        self.manifest = manifest
        self.arithmetic = arithmetic
        self.number = number
        self._engines = engines

    def step(
        self, token: npt.NDArray[np.int64], states: States
    ) -> tuple[npt.NDArray[np.float32], States]:
        """See StepSession."""
        found: tuple[npt.NDArray[np.float32], States]
        found = self._engines.ask("step", self.number, token, states)
        return found

    advance = step


class RemoteEngines(asyncio.BufferedProtocol):
    """Starts a process, and engines in it; see Engines.

    Args:
        config: how they are to run.
    """

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._numbers = count(1)
        self._engines: weakref.WeakValueDictionary[int, RemoteEngine]
        self._engines = weakref.WeakValueDictionary()
        self._asking = threading.Lock()
        self._frames = Frames()
        self._buffer = memoryview(bytearray(AT_ONCE))
        self._over = threading.Event()
        self._is_stopping = False
        self._signs = 0
        self._loop: asyncio.AbstractEventLoop
        self._control: socket.socket
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """See Engines."""
        return self._process.pid if self._process else 0

    async def begin(self) -> None:
        """Start the process; called in the event loop in which its engines are used."""
        self._loop = asyncio.get_running_loop()
        (self._control, control), (pulse, theirs) = socket.socketpair(), socket.socketpair()
        with control, theirs:
            numbers = (control.fileno(), theirs.fileno())
            self._process = subprocess.Popen(
                [sys.executable, *PROGRAM, *map(str, numbers)],
                stdin=subprocess.DEVNULL,
                stdout=2,
                env=child_environment(),
                pass_fds=numbers,
                start_new_session=True,  # a terminal's Ctrl-C is for the server
            )
        await self._loop.connect_accepted_socket(lambda: self, pulse)

    def require(self) -> None:
        """See Engines."""
        self.ask("configure", self._config.observe)
        self.ask("require", self._config.device)

    def open(self, model: bytes) -> RemoteSession:
        """See Engines."""
        number = next(self._numbers)
        session = RemoteSession(
            self, number, *self.ask("open", number, self._config.placement, content=model)
        )
        weakref.finalize(session, self._forget, number).atexit = False
        return session

    def start(self, session: StepSession, name: str, known: Known | None = None) -> RemoteEngine:
        """See Engines."""
        assert isinstance(session, RemoteSession)
        config = self._config
        engine = RemoteEngine(self._loop, session, config, name, self.cause_of_death, known)
        content = None if known is None else known.content
        ours, theirs = socket.socketpair()
        with theirs, ExitStack() as undone:
            undone.enter_context(ours)
            question = ("begin", session.number, config.max_rows, config.tree_bytes, name)
            self.ask(*question, connection=theirs, content=content)
            undone.pop_all()
        connecting = self._loop.connect_accepted_socket(lambda: engine, ours)
        asyncio.run_coroutine_threadsafe(connecting, self._loop).result()
        self._engines[session.number] = engine
        return engine

    def restart(self) -> str:
        """See Engines."""
        process = self._process
        self.stop()
        self._over.clear()
        self._is_stopping = False
        self._frames = Frames()
        asyncio.run_coroutine_threadsafe(self.begin(), self._loop).result()
        self.require()
        return how_it_ended(process.returncode if process else 0)

    def stop(self) -> None:
        """End the process."""
        if self._process is None:
            return
        self._is_stopping = True
        with suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)  # also for a thread that waits for an answer
        timer = threading.Timer(LAST_WORDS, self._process.kill)
        timer.start()
        self._process.wait()
        timer.cancel()
        self._over.wait(LAST_WORDS)
        with self._asking:
            self._control.close()

    def ask(
        self,
        *question: Any,
        connection: socket.socket | None = None,
        content: bytes | memoryview | None = None,
    ) -> Any:
        """Have the process do something; what it raises is raised.

        Args:
            question: the name of a method of House, and its first arguments.
            connection: one more argument, if it is given.
            content: the last argument, if it is given; it may be large, and is not copied.
        """
        size = None if content is None else len(content)
        message = framed((size, connection is not None, *question))
        with self._asking:
            try:
                if self._is_stopping:
                    raise EOFError
                self._send(message)
                if connection is not None:
                    socket.send_fds(self._control, [b"."], [connection.fileno()])
                if content is not None:
                    self._send(content)
                kind, value = received(self._receive)
            except (OSError, EOFError):
                raise Unavailable("the engines' process has ended") from None
        if kind == "failed":
            raise value
        return value

    def _send(self, data: bytes | memoryview) -> None:
        rest = memoryview(data)
        while rest:
            self._wait_for(select.POLLOUT)
            rest = rest[self._control.send(rest, socket.MSG_DONTWAIT) :]

    def _receive(self, view: memoryview) -> int:
        self._wait_for(select.POLLIN)
        return self._control.recv_into(view)

    def _wait_for(self, event: int) -> None:
        """Wait until the connection is ready; kill a process that gives no sign of life meanwhile.

        Like the watchdog, this counts looks and not seconds. The process gives no sign before it has
        imported its libraries, which may take long.
        """
        poll, signs, silent = select.poll(), self._signs, 0
        poll.register(self._control, event)
        while not poll.poll(1e3 * LOOK):
            silent = silent + 1 if self._signs == signs else 0
            signs = self._signs
            if signs and self._config.watchdog and silent * LOOK > self._config.watchdog:
                log.critical("the engines' process does not answer: it is killed")
                assert self._process is not None
                self._process.kill()

    def cause_of_death(self) -> ServingError:
        """The error of calls that were under way when the process ended by itself.

        Calls have no side effects, so they may be sent again if the process was killed from outside, as by
        the system when memory runs out. A crash may be the doing of one of them, though, which would then
        crash one server after another.
        """
        status = self._status()
        if status < 0 and -status not in CRASHES:
            return Unavailable("the engines' process was killed; try again")
        return ServingError("the model failed")

    def _status(self) -> int:
        """The exit status of the process, which has closed its connections."""
        assert self._process is not None
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(LAST_WORDS)
        return 0

    def _forget(self, number: int) -> None:
        threading.Thread(target=self._tell_forgotten, args=(number,), daemon=True).start()

    def _tell_forgotten(self, number: int) -> None:
        with suppress(Unavailable):
            self.ask("forget", number)

    # --- its signs of life

    def connection_lost(self, error: Exception | None) -> None:
        """See asyncio.BaseProtocol."""
        self._over.set()
        if not self._is_stopping:
            status = self._status()
            how = f"with status {status}" if status >= 0 else f"by signal {-status}"
            log.critical("the engines' process ended %s", how)

    def get_buffer(self, sizehint: int) -> memoryview:
        """See asyncio.BufferedProtocol."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """See asyncio.BufferedProtocol."""
        for beats in self._frames.feed(self._buffer[:nbytes]):
            self._signs += 1
            for number, beat in beats.items():
                if engine := self._engines.get(number):
                    assert isinstance(beat, Beat)
                    engine.seen = beat
