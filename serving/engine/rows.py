"""The rows that are being run: one record a string, all in one array.

Knows nothing of requests or models: `owner` and `place` are numbers that the engine gives a meaning to.
B is the number of rows, W the longest text.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.engine import philox
from serving.engine.sampling import Bool, SamplingParameters, Settings

Records = npt.NDArray[Any]

AHEAD = 16
"""Uniform numbers are made for so many steps at once."""


class Kind(IntEnum):
    """What becomes of a row."""

    DRAW = 0  # a draft: it draws on after its given text
    PREFIX = 1  # its given text is a job's prefix, whose context all drafts of the job begin with
    READ = 2  # its given text is scored
    TAKE = 3  # its given text is taken out of what remains to be drawn


def record_type(longest: int) -> np.dtype[np.void]:
    """A row's fields; `longest` is of a text."""
    return np.dtype(
        [
            ("owner", np.int64),
            ("kind", np.int8),
            ("place", np.int64),  # the context after the first `at` tokens
            ("at", np.int32),  # how many tokens the model has seen, the boundary not counted
            ("token", np.int64),  # what it is to see next; -1 if that is still to be chosen
            ("first", np.int32),  # length of the prefix
            ("given", np.int32),  # how many tokens of the text were there from the start
            ("length", np.int32),  # how many tokens of the text count
            ("text", np.int32, (longest + 1,)),
            ("index", np.uint64),
            ("attempt", np.uint64),
            ("seed", np.uint64),
            ("uniform", np.float64, (AHEAD,)),
            ("plain", np.bool_),  # no bounds, and the settings change nothing
            ("temperature", np.float64),
            ("top_k", np.int64),
            ("top_p", np.float64),
            ("min_p", np.float64),
            ("max_length", np.int32),
            ("bounded", np.bool_),
            ("state", np.int64),  # of the bounds' automaton
            ("log_prob", np.float64),
            ("sampling_log_prob", np.float64),
            ("log_weight", np.float64),
        ]
    )


class Rows:
    """Records of B rows at most; the first `len` of them are running."""

    def __init__(self, longest: int, most: int) -> None:
        self._records = np.zeros(most, record_type(longest))
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def free(self) -> int:
        """How many more there may be."""
        return len(self._records) - self._count

    @property
    def live(self) -> Records:
        """The running rows: a view, [B]."""
        return self._records[: self._count]

    def blank(self, count: int) -> Records:
        """New records to fill in and `add`."""
        return np.zeros(count, self._records.dtype)

    def add(self, records: Records) -> None:
        """Let rows in."""
        self._records[self._count : self._count + len(records)] = records
        self._count += len(records)

    def remove(self, gone: Bool) -> None:
        """Let the rows out where `gone` [B] holds; the order of the others changes."""
        stay = np.flatnonzero(~gone)
        holes = np.flatnonzero(gone[: len(stay)])
        if len(holes):
            self._records[holes] = self._records[stay[-len(holes) :]]
        self._count = len(stay)


def set_up(records: Records, parameters: SamplingParameters, prefix: Sequence[int]) -> None:
    """Fill in what all drafts of a job share."""
    records["seed"] = parameters.seed
    records["temperature"] = parameters.temperature
    records["top_k"] = parameters.top_k
    records["top_p"] = parameters.top_p
    records["min_p"] = parameters.min_p
    records["first"] = records["given"] = records["length"] = records["at"] = len(prefix)
    records["text"][:, : len(prefix)] = prefix
    records["token"] = -1
    records["plain"] = parameters.is_plain


def refill_uniforms(records: Records) -> None:
    """Make the numbers of the next steps of rows whose numbers are used up."""
    step = (records["length"] - records["first"]).astype(np.uint64)  # [B]
    steps = step[:, None] + np.arange(AHEAD, dtype=np.uint64)  # [B, AHEAD]

    def spread(name: str) -> npt.NDArray[np.uint64]:
        return np.repeat(records[name], AHEAD)

    made = philox.uniforms(spread("seed"), spread("index"), spread("attempt"), steps.ravel())
    records["uniform"] = made.reshape(steps.shape)


def uniforms(records: Records) -> npt.NDArray[np.float64]:
    """Each row's number for its next step: [B]."""
    step = (records["length"] - records["first"]) % AHEAD  # [B]
    number: npt.NDArray[np.float64] = records["uniform"][np.arange(len(records)), step]
    return number


def settings(records: Records) -> Settings:
    """The rows' settings."""
    return Settings(*(records[name] for name in Settings._fields))
