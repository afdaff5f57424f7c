"""What the engine is asked for and what it gives: values, free of gRPC, runtime and threads."""

import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import Enum, auto

from serving.sampling import SamplingParameters


class FinishReason(Enum):
    """Why a string ends where it does."""

    END = auto()
    MAX_LENGTH = auto()


@dataclass(frozen=True, slots=True)
class Sample:
    """One string; `log_prob` is of what was added to the prefix, under the model itself."""

    text: str
    index: int
    finish_reason: FinishReason
    log_prob: float


@dataclass(eq=False)
class Job:
    """One request: `n` strings after one prefix.

    Attributes:
        prefix: token ids, boundary left out.
        n: how many strings.
        parameters: how they are drawn.
        max_length: the longest string, prefix included; at least len(prefix).
        deadline: the instant of time.monotonic() after which nobody waits; None for never.
        result: gets the samples in order; cancelling it abandons the job.
    """

    prefix: list[int]
    n: int
    parameters: SamplingParameters
    max_length: int
    deadline: float | None = None
    result: "Future[list[Sample]]" = field(default_factory=Future)

    def is_expired(self, now: float | None = None) -> bool:
        """Whether the deadline has passed."""
        return self.deadline is not None and (now or time.monotonic()) >= self.deadline
