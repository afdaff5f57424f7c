"""A server with a bug in it, to see that a test finds it: `python -m tests.fault.planted BUG serve …`."""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from serving import repository, server
from serving.apart import engines
from serving.apart import main as apart
from serving.apart.engines import RemoteEngines
from serving.apart.remote import RemoteEngine
from serving.api import intake, loop_time, transport
from serving.cli import main
from serving.engine.admission import Admission
from serving.engine.engine import Engine
from serving.engine.job import Job
from serving.errors import ServingError
from serving.host import Host
from serving.listening import claimed
from serving.observe import writing
from serving.observe.writing import LineWriter
from serving.options import server_options
from serving.watchdog import Watchdog


def mixed_up() -> None:
    """A call gets the newest model's name, and the engine of the one before."""
    take = Host.take
    engines: list[Any] = []

    def wrong(self: Host, asked: str) -> Any:
        model, engine = take(self, asked)
        if engine not in engines:
            engines.append(engine)
        other = engines[-2] if len(engines) > 1 and engines[-2] in self.running() else engine
        self._users[other] += 1
        self._users[engine] -= 1
        return model, other

    Host.take = wrong  # type: ignore[method-assign]


def hasty() -> None:
    """Engines end as soon as there are newer ones, whoever uses them."""
    end = Host._end_if_unused

    def wrong(self: Host, engine: Any) -> None:
        if engine.session in self._begun:
            self._users[engine] = 0
            end(self, engine)

    Host._end_if_unused = wrong  # type: ignore[method-assign]


def at_a_file(happen: Callable[[], object]) -> None:
    """Have something happen in an engine's turn once the file that PLANTED names is there."""
    turn, file = Engine.turn, Path(os.environ["PLANTED"])

    def wrong(self: Engine) -> None:
        if file.exists():
            happen()
        turn(self)

    Engine.turn = wrong  # type: ignore[method-assign]


def hang() -> None:
    """An engine that comes to no end."""
    at_a_file(threading.Event().wait)


def crash() -> None:
    """An engine that meets what nobody thought of."""

    def fail() -> None:
        raise KeyError("secret")

    at_a_file(fail)


def deaf_hang() -> None:
    """The same, and nobody looks."""
    Watchdog.look = lambda self: ""  # type: ignore[method-assign]
    hang()


def deaf_crash() -> None:
    """The same, and nobody looks."""
    Watchdog.look = lambda self: ""  # type: ignore[method-assign]
    crash()


def endless_load() -> None:
    """A version 2 whose loading comes to no end."""
    load = repository.load_version

    def wrong(folder: Path, *arguments: Any) -> Any:
        if folder.name == "2":
            Path(os.environ["PLANTED"]).touch()
            threading.Event().wait()
        return load(folder, *arguments)

    repository.load_version = wrong  # type: ignore[assignment]


def deaf_to_leaving() -> None:
    """An engine that does not hear that a job's caller has left."""
    Engine._sweep = lambda self: None  # type: ignore[method-assign]


def at_each_job(happen: Callable[[], object]) -> None:
    """Have something happen whenever a job is submitted."""
    submit = RemoteEngine.submit

    def wrong(self: RemoteEngine, job: Job, *, is_continued: bool = False) -> None:
        happen()
        submit(self, job, is_continued=is_continued)

    RemoteEngine.submit = wrong  # type: ignore[method-assign]


def leaky() -> None:
    """A kilobyte a call that nobody gives back."""
    kept: list[bytearray] = []
    at_each_job(lambda: kept.append(bytearray(1024)))


def holding() -> None:
    """A file for every hundredth call that nobody closes."""
    kept: list[Any] = []
    at_each_job(lambda: kept.append(os.dup(0) if len(kept) % 100 == 0 else None))


def unsliced() -> None:
    """Long work of a call is done at once, whoever else waits for the event loop."""
    loop_time.SMALL = 2**62


def open_door() -> None:
    """Whatever comes is let in."""
    Admission._check = lambda *arguments: None  # type: ignore[method-assign]


def blind() -> None:
    """Sums that are not compared."""

    def wrong(folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    repository.read_verified = wrong  # type: ignore[attr-defined]


def time_of_day() -> None:
    """What should be measured by a clock that only goes on is measured by the time of day."""
    time.monotonic = time.time


def impatient() -> None:
    """A watchdog that takes its own absence for a hang, though the whole process was stopped."""
    look, last = Watchdog.look, [time.monotonic()]

    def wrong(self: Watchdog) -> str:
        since, last[0] = last[0], time.monotonic()
        return "it hangs" if last[0] - since > self.limit else look(self)

    Watchdog.look = wrong  # type: ignore[method-assign]


def loud() -> None:
    """Whoever logs what cannot be written is ended by it."""

    def wrong(self: LineWriter, record: logging.LogRecord) -> None:
        writing.write(sys.stderr, self.format(record))

    LineWriter.emit = wrong  # type: ignore[method-assign]


def littering() -> None:
    """What could not be written to its end is left lying."""

    def wrong(self: Path, missing_ok: bool = False) -> None:
        pass

    Path.unlink = wrong  # type: ignore[method-assign]


def forgetful() -> None:
    """What is not in the repository any more is not served any more."""
    repository.Repository._irreplaceable = lambda self, versions: {}  # type: ignore[method-assign]


def blaming() -> None:
    """Calls are taken for the cause when the process of engines is killed from outside."""
    RemoteEngines.cause_of_death = (  # type: ignore[method-assign]
        lambda self: ServingError("the model failed")
    )


def sharing() -> None:
    """A port is shared with whoever wants it too."""

    def wrong(is_shared: bool) -> list[tuple[str, int]]:
        return server_options(True)

    server.server_options = wrong  # type: ignore[attr-defined]
    server.claimed = lambda field, address, is_shared: claimed(field, address, True)  # type: ignore[attr-defined]


def partial() -> None:
    """One of several addresses is enough to serve."""

    @contextmanager
    def wrong(field: str, address: str, is_shared: bool) -> Iterator[list[str]]:
        yield [address]

    server.claimed = wrong  # type: ignore[attr-defined]


def unbounded() -> None:
    """Requests are read all at once, none gives way, and nobody minds what is not read."""
    intake.MAX_UPLOADS = 10**6  # type: ignore[attr-defined]
    intake.MIN_WAIT = 10**6
    transport.MAX_UNREAD = 10**12  # type: ignore[attr-defined]
    transport.MAX_STALLED = 10**12  # type: ignore[attr-defined]
    transport.Transport._finish = staticmethod(lambda *_: None)  # type: ignore[assignment, method-assign]


ENGINES = "engines"

BUGS: dict[str, Callable[[], object]] = {
    bug.__name__: bug
    for bug in (
        *(mixed_up, hasty, endless_load, blind, forgetful),
        *(hang, crash, deaf_hang, deaf_crash, impatient),
        *(time_of_day, loud, littering, blaming, sharing, partial),
        *(deaf_to_leaving, leaky, holding, open_door, unbounded, unsliced),
    )
}

if __name__ == "__main__":
    bug = sys.argv.pop(1)
    if sys.argv[1] == ENGINES:  # the engines' process has the same bug
        _, os.environ["PLANTED"] = sys.argv.pop(1), sys.argv.pop(1)
        BUGS[bug]()
        apart.main()
    else:
        BUGS[bug]()
        planted = os.environ.get("PLANTED", "")  # which that process does not inherit
        engines.PROGRAM = ("-m", "tests.fault.planted", bug, ENGINES, planted)
        main()
