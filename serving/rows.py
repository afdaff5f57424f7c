"""The rows that are being run: one column an array, one place a string.

A row either draws a sample or feeds a prefix. Knows nothing of requests: `owner` is whatever the engine
puts there. B is the number of rows, V the vocabulary, W the longest text.
"""

from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from serving import philox, sampling
from serving.job import Job
from serving.manifest import Manifest
from serving.sampling import Float64, Int64
from serving.session import States
from serving.vocabulary import BOUNDARY

Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Context:
    """What a model knows after some text: logits [V] and a slice of every state."""

    logits: npt.NDArray[np.float32]
    states: States


@dataclass
class Rows:
    """Columns of B rows each."""

    owner: npt.NDArray[Any]
    feeding: Bool  # [B], whether `text` is a prefix being fed
    text: Int64  # [B, W], token ids
    length: Int64  # [B], how many of them count
    step: npt.NDArray[np.uint64]  # [B], characters drawn or fed so far
    index: npt.NDArray[np.uint64]  # [B]
    seed: npt.NDArray[np.uint64]  # [B]
    temperature: Float64  # [B]
    top_k: Int64  # [B]
    max_length: Int64  # [B]
    log_prob: Float64  # [B]
    token: Int64  # [B], what is fed next
    logits: npt.NDArray[np.float32]  # [B, V]
    states: States  # [B, ...] each

    def __len__(self) -> int:
        return len(self.length)

    @classmethod
    def empty(cls, manifest: Manifest) -> Self:
        """No rows."""
        ints, floats = np.zeros(0, np.int64), np.zeros(0)
        counts = np.zeros(0, np.uint64)
        return cls(
            owner=np.empty(0, object),
            feeding=np.zeros(0, np.bool_),
            text=np.zeros((0, manifest.max_length + 1), np.int64),
            length=ints,
            step=counts,
            index=counts,
            seed=counts,
            temperature=floats,
            top_k=ints,
            max_length=ints,
            log_prob=floats,
            token=ints,
            logits=np.zeros((0, len(manifest.vocabulary)), np.float32),
            states=tuple(np.zeros((0, *s.shape), s.dtype) for s in manifest.states),
        )

    @classmethod
    def of(cls, manifest: Manifest, owner: Any, job: Job, context: Context, indices: range) -> Self:
        """One row a sample of a job, all of them going on from the same context."""
        rows = len(indices)
        text = np.zeros((rows, manifest.max_length + 1), np.int64)
        text[:, : len(job.prefix)] = job.prefix
        return cls(
            owner=np.full(rows, owner, object),
            feeding=np.zeros(rows, np.bool_),
            text=text,
            length=np.full(rows, len(job.prefix)),
            step=np.zeros(rows, np.uint64),
            index=np.arange(indices.start, indices.stop, dtype=np.uint64),
            seed=np.full(rows, job.parameters.seed, np.uint64),
            temperature=np.full(rows, job.parameters.temperature),
            top_k=np.full(rows, job.parameters.top_k),
            max_length=np.full(rows, job.max_length),
            log_prob=np.zeros(rows),
            token=np.zeros(rows, np.int64),
            logits=np.repeat(context.logits[None], rows, axis=0),  # [B, V]
            states=tuple(np.repeat(state[None], rows, axis=0) for state in context.states),
        )

    @classmethod
    def feeding_prefix(cls, manifest: Manifest, owner: Any, job: Job, root: Context) -> Self:
        """One row that runs a job's prefix from the start of the string."""
        return replace(cls.of(manifest, owner, job, root, range(1)), feeding=np.ones(1, np.bool_))

    def joined(self, others: "list[Rows]") -> "Rows":
        """These rows, then the others."""
        if not others:
            return self
        every = [self, *others]
        return Rows(
            **{name: np.concatenate([getattr(r, name) for r in every]) for name in _COLUMNS},
            states=tuple(
                np.concatenate(slices) for slices in zip(*(r.states for r in every), strict=True)
            ),
        )

    def kept(self, keep: Bool) -> "Rows":
        """The rows where `keep` [B] holds."""
        if keep.all():
            return self
        return Rows(
            **{name: getattr(self, name)[keep] for name in _COLUMNS},
            states=tuple(state[keep] for state in self.states),
        )

    def advanced(self, logits: npt.NDArray[np.float32], states: States) -> "Rows":
        """The same rows after a step of the model."""
        return replace(self, logits=logits, states=states)

    @property
    def fed(self) -> Bool:
        """Rows whose prefix has been run to its end: [B]."""
        return self.feeding & (self.step >= self.length.astype(np.uint64))

    def draw(self) -> tuple[Bool, Bool]:
        """Choose every row's next token in place.

        Returns:
            Which rows have ended, [B], and which are cut at their longest length, [B].
        """
        attempt = np.zeros_like(self.step)
        uniform = philox.uniforms(self.seed, self.index, attempt, self.step)
        drawn, log_probs = sampling.draw(self.logits, self.temperature, self.top_k, uniform)
        sampled = ~self.feeding
        ended = sampled & (drawn == BOUNDARY)
        cut = sampled & ~ended & (self.length == self.max_length)
        grows = np.flatnonzero(sampled & ~ended & ~cut)
        self.log_prob[sampled & ~cut] += log_probs[sampled & ~cut]
        self.text[grows, self.length[grows]] = drawn[grows]
        self.length[grows] += 1
        fed = np.flatnonzero(self.feeding)
        drawn[fed] = self.text[fed, self.step[fed].astype(np.int64)]
        self.token = drawn
        self.step = self.step + np.uint64(1)
        return ended, cut

    def context(self, row: int) -> Context:
        """A copy of what a row knows."""
        return Context(self.logits[row].copy(), tuple(state[row].copy() for state in self.states))


_COLUMNS = [field.name for field in fields(Rows) if field.name != "states"]
