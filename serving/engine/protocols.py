"""What a server needs of its engines, wherever they run: see `Engine` and `RemoteEngine`."""

from typing import Protocol

from serving.constraints.taken import Known
from serving.engine.admission import Admission
from serving.engine.figures import Figures
from serving.engine.job import Draw, Job
from serving.engine.stepping import StepSession
from serving.errors import ServingError


class AnyEngine(Protocol):
    """Runs the jobs of one model.

    Attributes:
        session: the model.
        name: what it is called in logs.
        max_rows: how many strings run at once in either lane.
        prefix_cache: bytes that its prefix tree may take.
        admission: decides what is let in.
        failure: why it does nothing any more; empty as long as it does.
    """

    session: StepSession
    name: str
    max_rows: int
    prefix_cache: int
    admission: Admission
    failure: str

    @property
    def beats(self) -> int:
        """Counts up with every turn, and with every step of a long one: a sign of life."""

    @property
    def is_alive(self) -> bool:
        """Whether it can take turns at all."""

    @property
    def is_busy(self) -> bool:
        """Whether there is something that a turn would do."""

    def figures(self) -> Figures:
        """What is counted of it."""

    def position(self) -> str:
        """Where it is now, for people."""

    def submit(self, job: Job, *, is_continued: bool = False) -> None:
        """Queue a job; its future gets the answer.

        Args:
            job: not yet begun.
            is_continued: it goes on with what was let in before.

        Raises:
            Unavailable: the engine has stopped.
            Exhausted, DeadlineExceeded: see Admission.enter.
        """

    def collected(self, job: Draw, count: int) -> None:
        """The samples before this index were taken from a job's sink: others may begin."""

    def fail(self, reason: str, error: ServingError) -> None:
        """Take no more jobs, and answer those that there are with an error."""

    def close(self) -> None:
        """Take no more jobs, and end when those that were submitted are finished."""

    def stop(self) -> None:
        """The same, and wait for the end."""


class Engines(Protocol):
    """Opens sessions and starts engines: see `LocalEngines` and `RemoteEngines`."""

    @property
    def pid(self) -> int:
        """The process that they are in; 0 where that is this one."""

    async def begin(self) -> None:
        """Make ready; called in the event loop in which engines are used."""

    def require(self) -> None:
        """Raise NoDevice unless models can run where they are to."""

    def open(self, model: bytes) -> StepSession:
        """A session of a model's file; raises BadModel or NoDevice."""

    def start(self, session: StepSession, name: str, known: Known | None = None) -> AnyEngine:
        """Start the engine of a session opened here; raises what the first step does.

        Args:
            session: the model.
            name: see AnyEngine.
            known: the model's set of known strings.
        """

    def restart(self) -> str:
        """Begin anew after the engines' process has ended, and return how it did.

        Every session and engine that there was is lost.

        Raises:
            Unavailable: they cannot begin anew.
        """

    def stop(self) -> None:
        """There will be no more engines; those that there were have ended."""
