"""What the engine is asked for and what it gives: values, free of gRPC, runtime and threads."""

import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import cached_property
from typing import Any, Final, NamedTuple, Protocol

from serving.constraints.masks import Bounds
from serving.constraints.taken import Known
from serving.engine.sampling import Float32, Float64, SamplingParameters

Ids = Sequence[int]
"""Token ids of a text, boundaries left out."""
IDS: Final = "i"
"""The type code of ids in an array: 32 bits with a sign, a tenth of a list's memory."""
LIGHT = 2048
"""Characters that a light job may take at most."""


class FinishReason(Enum):
    """Why a string ends where it does."""

    END = auto()
    MAX_LENGTH = auto()


FINISH_REASONS = (FinishReason.MAX_LENGTH, FinishReason.END)
"""By whether a string ends by itself."""


class Shortfall(Enum):
    """Why there are fewer strings than were asked for."""

    SPACE_EXHAUSTED = auto()
    ATTEMPTS = auto()
    DEADLINE = auto()


@dataclass(slots=True)
class Sample:
    """One string; the probabilities are of what was added to the prefix, see `sampling.Drawn`."""

    text: str
    index: int
    finish_reason: FinishReason
    log_prob: float
    sampling_log_prob: float = 0.0
    log_weight: float = 0.0
    attempts: int = 1


@dataclass
class Usage:
    """What a job took."""

    characters: int = 0
    samples: int = 0
    rejected_duplicate: int = 0
    rejected_known: int = 0
    rejected_excluded: int = 0
    rejected_length: int = 0
    rejected_pattern: int = 0


@dataclass(frozen=True)
class Selection:
    """Which strings may be among a job's samples; the others are drawn again.

    Attributes:
        is_unique: no string twice.
        known: strings that are not wanted, by their fingerprints.
        excluded: strings that are not wanted.
        complete_only: strings that were cut are not wanted.
        accepted: what strings must keep to, where that is not enforced while drawing.
        max_attempts: how often one sample is drawn at most.
        normalized_only: strings that are not in NFC are not wanted; set where the alphabet can spell them.
    """

    is_unique: bool = False
    known: Known | None = None
    excluded: frozenset[str] = frozenset()
    complete_only: bool = False
    accepted: Bounds | None = None
    max_attempts: int = 100
    normalized_only: bool = False

    @property
    def is_free(self) -> bool:
        """Whether every string is wanted."""
        return not (
            self.is_unique
            or self.known is not None
            or self.excluded
            or self.complete_only
            or self.accepted is not None
            or self.normalized_only
        )


class Sink(Protocol):
    """Takes samples in the order of their index, in the engine's thread; must not wait."""

    def __call__(self, samples: Sequence[Sample]) -> None:
        """Take some."""


@dataclass(eq=False)
class Job:
    """Work of the engine with a deadline, whose answer goes to `result`; cancelling that abandons it.

    Attributes:
        deadline: the instant of time.monotonic() after which nobody waits; None for never.
        caller: whose it is: rows are shared fairly between callers.
        waiting: characters of it that have not begun; kept by Admission.
        number: what it is called between processes.
    """

    caller: str = field(default="", kw_only=True)
    deadline: float | None = field(default=None, kw_only=True)
    result: "Future[Any]" = field(default_factory=Future, kw_only=True)
    started_at: float = field(default=0.0, kw_only=True)
    waiting: int = field(default=0, init=False)
    number: int = field(default=0, init=False)

    @property
    def is_partial(self) -> bool:
        """Whether what there is becomes the answer when the time is up."""
        return False

    @property
    def is_awaited(self) -> bool:
        """Whether a call waits for it."""
        return True

    @cached_property
    def characters(self) -> int:
        """How many it may take at most: what it is weighed by."""
        raise NotImplementedError

    @property
    def is_light(self) -> bool:
        """Whether it is little work."""
        return self.characters <= LIGHT

    def fail(self, error: Exception) -> None:
        """Give an error for an answer, unless there is one or nobody waits."""
        if not self.result.done() and self.result.set_running_or_notify_cancel():
            self.result.set_exception(error)

    def is_expired(self, now: float | None = None) -> bool:
        """Whether the deadline has passed."""
        return self.deadline is not None and (now or time.monotonic()) >= self.deadline


@dataclass(frozen=True)
class Outcome:
    """How a Draw came out; `samples` is empty where they went to a sink."""

    samples: Sequence[Sample]
    usage: Usage
    shortfall: Shortfall | None = None


@dataclass(eq=False)
class Draw(Job):
    """`n` strings after one prefix: an `Outcome`.

    Attributes:
        prefix: token ids, boundary left out.
        n: how many strings, counted from index 0.
        parameters: how they are drawn.
        max_length: the longest string, prefix included; at least len(prefix).
        bounds: what is enforced while drawing; None for nothing.
        selection: which strings are thrown away.
        start: the index of the first sample that is wanted.
        sink: takes the samples as they come; None keeps them for the outcome.
        window: how many samples may be under way beyond those that were taken from the sink.
        collected: how many samples were taken from the sink.
        partial_at: the instant at which what there is becomes the answer; None for never.
        seeds: if any, `n` of them, 2 at least, for a job that wants every string before somebody asks for it:
            each is the first of its own seed, and not one of that of `parameters`.
    """

    prefix: list[int]
    n: int
    parameters: SamplingParameters
    max_length: int
    bounds: Bounds | None = None
    selection: Selection = Selection()
    start: int = 0
    sink: Sink | None = None
    window: int = 2**62
    partial_at: float | None = None
    collected: int = 0
    seeds: Sequence[int] = ()

    @property
    def is_partial(self) -> bool:
        """See Job."""
        return self.partial_at is not None

    @property
    def is_awaited(self) -> bool:
        """See Job."""
        return not self.seeds

    @cached_property
    def characters(self) -> int:
        """See Job."""
        return (self.n - self.start) * (self.max_length + 1 - len(self.prefix))


class Reading(NamedTuple):
    """What a model makes of a text: each character's log-probability, the end's last, and the logits."""

    log_probs: Float64  # [T + 1]
    logits: Float32  # [V], after the whole text


@dataclass(eq=False)
class Read(Job):
    """Texts as token ids, boundaries left out: a `Reading` of each, in their order.

    Attributes:
        texts: the token ids.
        has_logits: whether the logits after each text are wanted; if not, they have length 0.
        is_bulk: whether it is a part of a larger request, which is not light.
    """

    texts: Sequence[Ids]
    has_logits: bool = True
    is_bulk: bool = False

    @property
    def is_light(self) -> bool:
        """See Job."""
        return not self.is_bulk and super().is_light

    @cached_property
    def characters(self) -> int:
        """See Job."""
        return sum(len(text) + 1 for text in self.texts)
