"""The process that has the engines: `python -m serving.apart.main CONTROL PULSE`, both sockets' numbers."""

import ctypes
import gc
import signal
import socket
import sys
import threading
from typing import Any

from serving.apart.beat import Beat
from serving.apart.frames import exactly, framed, received, sendable
from serving.apart.post import PostedEngine
from serving.constraints.taken import Known
from serving.engine.opening import open_session, require
from serving.engine.stepping import States, StepSession
from serving.manifest import Manifest
from serving.observe.config import ObserveConfig
from serving.observe.logs import configure
from serving.observe.writing import leave_at_once
from serving.placement import Placement

BEAT = 0.2
"""Seconds between two signs of life."""
PR_SET_PDEATHSIG = 1
"""See prctl(2)."""


class House:
    """Sessions and engines by their numbers; does what it is asked for over a connection."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._sessions: dict[int, StepSession] = {}
        self._engines: dict[int, PostedEngine] = {}

    def serve(self) -> None:
        """Answer until nobody asks any more."""
        while True:
            try:
                name, *arguments = self._question()
            except (EOFError, OSError):
                return
            except Exception as error:  # such as one for which there is no memory
                answer = framed(("failed", sendable(error)))
            else:
                answer = self._answer(name, arguments)
            try:
                self._control.sendall(answer)
            except OSError:
                return

    def _question(self) -> list[Any]:
        """A method's name and arguments: see RemoteEngines.ask."""
        question: list[Any]
        size, has_connection, *question = received(self._control.recv_into)
        if has_connection:
            _, (number, *_), _, _ = socket.recv_fds(self._control, 1, 1)
            question.append(socket.socket(fileno=number))
        if size is not None:
            question.append(exactly(self._control.recv_into, size))
        return question

    def _answer(self, name: str, arguments: list[Any]) -> bytes:
        """What a method returns or raises, as it is sent; whatever one model does, the others are served."""
        try:
            return framed(("done", getattr(self, name)(*arguments)))
        except Exception as error:
            return framed(("failed", sendable(error)))

    def configure(self, observe: ObserveConfig) -> None:
        """Log as the server does."""
        configure(observe, worker=True)

    def require(self, device: str) -> None:
        """See opening.require."""
        require(device)

    def open(self, number: int, placement: Placement, model: bytearray) -> tuple[Manifest, str]:
        """Open a session; what it says of itself, and its arithmetic."""
        session = self._sessions[number] = open_session(bytes(model), placement)
        return session.manifest, session.arithmetic

    def begin(
        self,
        number: int,
        max_rows: int,
        prefix_cache: int,
        name: str,
        connection: socket.socket,
        known: bytearray | None = None,
    ) -> None:
        """Start a session's engine, on a connection that comes along, as its set of known strings does."""
        engine = PostedEngine(
            self._sessions[number],
            connection,
            max_rows,
            prefix_cache,
            name,
            None if known is None else Known.of(known),
        )
        engine.start()
        self._engines[number] = engine

    def forget(self, number: int) -> None:
        """A session is not asked for any more."""
        self._sessions.pop(number, None)
        self._engines.pop(number, None)

    def step(self, number: int, token: Any, states: States) -> Any:
        """See StepSession."""
        return self._sessions[number].step(token, states)

    def beats(self, before: dict[int, Beat]) -> dict[int, Beat]:
        """What is to be seen now."""
        return {
            number: beat(engine, before.get(number))
            for number, engine in list(self._engines.items())
        }


def beat(engine: PostedEngine, before: Beat | None) -> Beat:
    """What is to be seen of an engine."""
    beats, is_busy = engine.beats, engine.is_busy
    has_stopped = is_busy and before is not None and before.beats == beats
    position = engine.position() if has_stopped else ""
    return Beat(beats, engine.post.taken, is_busy, engine.figures(), position)


def pulse(house: House, connection: socket.socket) -> None:
    """Tell what is seen of the engines, and nothing as a sign of life where that has not changed."""
    last: dict[int, Beat] = {}
    never = threading.Event()  # whose waiting minds no clock that jumps
    while not never.wait(BEAT):
        now = house.beats(last)
        news, last = {} if now == last else now, now
        try:
            connection.sendall(framed(news))
        except OSError:  # the server is gone
            return


def end_with_parent() -> None:
    """Have the kernel kill this process when the server ends, even while it is stopped or hangs."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> None:
    """Serve until the server is gone."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # which are the server's to heed
    end_with_parent()
    gc.freeze()  # what was imported stays, and need not be looked through
    control, connection = (socket.socket(fileno=int(number)) for number in sys.argv[1:3])
    house = House(control)
    threading.Thread(target=pulse, args=(house, connection), daemon=True).start()
    house.serve()
    leave_at_once(0)  # nobody waits for what is under way


if __name__ == "__main__":
    main()
