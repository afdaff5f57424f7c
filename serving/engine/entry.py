"""Jobs under way: what of them is running, and what is to run next."""

import math
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from serving.constraints.remaining import Remaining
from serving.engine.drafts import Drafts, FreeDrafts, Taken, drafts_of
from serving.engine.job import (
    Draw,
    FinishReason,
    Job,
    Outcome,
    Read,
    Reading,
    Sample,
    Shortfall,
)
from serving.engine.ready import ALONE, Ready
from serving.engine.rows import Records, packed
from serving.engine.samples import ended, together
from serving.engine.sampling import Float32, Float64
from serving.engine.walking import Walker
from serving.errors import ServingError
from serving.vocabulary import Vocabulary, is_normalized, normalized_length

NO_LOGITS: Float32 = np.empty(0, np.float32)
MAX_REMAINING = 100_000
"""Prefixes that drawing without replacement may keep for one job; after that there are no more attempts."""


class Entry:
    """A job under way.

    Attributes:
        number: by which its rows know it.
        held: how many rows it has.
        cost: characters that a row of it may take.
    """

    is_stream = False

    def __init__(self, job: Job, number: int) -> None:
        self.job = job
        self.number = number
        self.held = 0
        self.cost = 1

    @property
    def caller(self) -> str:
        """Whose it is."""
        return self.job.caller

    @property
    def due(self) -> float:
        """The instant of time.monotonic() at which something is to be done about it."""
        return math.inf if self.job.deadline is None else self.job.deadline

    @property
    def wanted(self) -> int:
        """How many rows it could begin."""
        raise NotImplementedError

    def answer(self, value: Any) -> None:
        """Give the answer, unless nobody waits for it."""
        if not self.job.result.done() and self.job.result.set_running_or_notify_cancel():
            self.job.result.set_result(value)

    def fail(self, error: ServingError) -> None:
        """Give an error instead."""
        self.job.fail(error)


class DrawEntry(Entry):
    """A Draw under way.

    Attributes:
        kept: the context that all drafts go on from; None until the prefix has been run.
        ready: the rows of first attempts.
        remaining: what is left to draw, once drafts are drawn without replacement.
        to_take: texts that are to be taken out of it before the next draft.
        ended: how many samples have become certain that end by themselves.
        cut: how many that are cut.
    """

    def __init__(self, job: Draw, number: int, root: Any, longest: int) -> None:
        super().__init__(job, number)
        self.draw = job
        self.cost = job.max_length + 1 - len(job.prefix)
        self.is_stream = job.sink is not None
        self.drafts: Drafts | FreeDrafts = drafts_of(job)
        self.kept: Any = None if job.prefix else root
        self.is_prefix_out = False
        self.remaining: Remaining | None = None
        self.to_take: deque[Taken] = deque()
        self.taking: dict[int, Taken] = {}
        self.ended = self.cut = 0
        self._takes = 0
        self._samples: list[Sequence[Sample]] = []
        self.ready = Ready(job, longest)

    def packed(self) -> bytes:
        """What all its drafts begin with, see `rows.SHARED`."""
        job, p, first = self.draw, self.draw.parameters, len(self.draw.prefix)
        rules = job.bounds or job.selection.accepted
        is_simple = p.is_plain and rules is None and self.remaining is None
        has_watch = job.bounds is None and rules is not None
        return packed(
            (
                *(self.number, -1, first, first, first, first),
                *(job.max_length, rules.start if rules else 0),
                *(p.seed, p.temperature, p.top_k, p.top_p, p.min_p),
                *(is_simple, job.bounds is not None, has_watch),
            )
        )

    @property
    def due(self) -> float:
        """See Entry."""
        return min(super().due, math.inf if (at := self.draw.partial_at) is None else at)

    @property
    def wanted(self) -> int:
        """See Entry."""
        if self.kept is None:
            return 0 if self.is_prefix_out else 1
        if self.to_take:
            return len(self.to_take)
        if self.taking:
            return 0
        return self.drafts.wanted

    def ahead(self, walker: Walker) -> Records | None:
        """Rows of the next drafts, if there are any, and they are simple and begin one after the other."""
        if not isinstance(self.drafts, FreeDrafts) or self.kept is None or not self.wanted:
            return None
        made = self.ready.ahead(self.packed, self.drafts.next, 1, walker, ALONE)
        records = made[: self.wanted]
        return records if records["simple"][0] else None

    def begin_taking(self, count: int) -> dict[int, Taken]:
        """The next texts to take out of what remains, by a number each."""
        first = self._takes
        self._takes += count
        begun = {number: self.to_take.popleft() for number in range(first, self._takes)}
        self.taking |= begun
        return begun

    def settle(self, vocabulary: Vocabulary) -> bool:
        """Pass on the samples that have become certain, and the answer if it is complete.

        Returns:
            Whether the drafts that are running have become of no use.
        """
        was_sequential = self.drafts.is_sequential
        samples = self.drafts.accepted()
        if samples:
            by_themselves = ended(samples)
            self.ended += by_themselves
            self.cut += len(samples) - by_themselves
            if self.draw.sink is None:
                self._samples.append(samples)
            else:
                self.draw.sink(samples)
        has_switched = self.drafts.is_sequential and not was_sequential
        if has_switched:
            self.remaining = Remaining()
            self.to_take.extend(self._takeable(vocabulary))
        if self.remaining is not None and self.remaining.size > MAX_REMAINING:
            self.drafts.shortfall = self.drafts.shortfall or Shortfall.ATTEMPTS
        if self.drafts.is_complete:
            self.finish()
        return has_switched

    @property
    def looks_at_ids(self) -> bool:
        """Whether it matters to `finish_draft` what a draft's tokens are."""
        return self.draw.selection.accepted is not None or self.remaining is not None

    def finish_draft(self, draft: Sample, ids: list[int]) -> None:
        """A draft has come to its end; `ids` are its tokens, prefix included."""
        selection = self.draw.selection
        if selection.accepted is not None and not selection.accepted.accepts(ids):
            self._reject(draft, ids)
        else:
            self.drafts.finish(draft)
        if self.remaining is not None:
            self._take_away(draft, ids)

    def give_up(self, draft: Sample, ids: list[int]) -> None:
        """No string that begins with these tokens is accepted."""
        self._reject(draft, ids)
        if self.remaining is not None:
            self.remaining.take_branch(ids[len(self.draw.prefix) :])

    def _reject(self, draft: Sample, ids: list[int]) -> None:
        accepted = self.draw.selection.accepted
        assert accepted is not None
        state = accepted.automaton.run(ids)
        is_short = state < len(accepted.automaton.next) and len(ids) < accepted.shortest
        self.drafts.reject(draft, "length" if is_short else "pattern")

    def _take_away(self, draft: Sample, ids: list[int]) -> None:
        """What was drawn without replacement does not come again, unless it may."""
        is_rejected = draft.index not in self.drafts
        if is_rejected or self.draw.selection.is_unique:
            is_cut = draft.finish_reason is FinishReason.MAX_LENGTH
            ended = not (is_rejected and is_cut and self.draw.selection.complete_only)
            self._take(draft.text, ids, ended=ended, cut=True)

    def finish_taking(self, number: int, ids: list[int]) -> None:
        """A taken text has been passed by; `ids` are its tokens, prefix included."""
        taken = self.taking.pop(number)
        self._take(taken.text, ids, ended=taken.ended, cut=taken.cut)

    def _take(self, text: str, ids: list[int], *, ended: bool, cut: bool) -> None:
        """Take a text out of what remains; only one of the longest length can be cut there.

        Nothing that begins with a text that is not in NFC is in NFC, so all of it is taken out together.
        """
        assert self.remaining is not None
        first = len(self.draw.prefix)
        if self.draw.selection.normalized_only and not is_normalized(text):
            self.remaining.take_branch(ids[first : normalized_length(text) + 1])
            return
        path = ids[first:]
        self.remaining.take(path, ended=ended, cut=cut and len(ids) == self.draw.max_length)

    def _takeable(self, vocabulary: Vocabulary) -> list[Taken]:
        """What of the taken texts could be drawn at all."""
        job, alphabet = self.draw, set(vocabulary.alphabet)
        prefix = vocabulary.decode(job.prefix)
        return [
            taken
            for taken in self.drafts.taken
            if taken.text.startswith(prefix)
            and len(taken.text) <= job.max_length
            and alphabet.issuperset(taken.text)
            and (job.bounds is None or job.bounds.accepts(vocabulary.encode(taken.text)))
        ]

    def finish(self, shortfall: Shortfall | None = None) -> None:
        """Answer with what there is."""
        reason = self.drafts.shortfall or shortfall
        self.answer(Outcome(together(self._samples), self.drafts.usage, reason))


class ReadEntry(Entry):
    """A Read under way."""

    def __init__(self, job: Read, number: int) -> None:
        super().__init__(job, number)
        self.read = job
        self._next = self._finished = 0
        self.characters = 0  # that were read
        longest = max((len(text) for text in job.texts), default=0)
        self.cost = longest + 1
        self.log_probs: Float64 = np.zeros((len(job.texts), longest + 1))  # [texts, T + 1]
        self._readings: list[Reading | None] = [None] * len(job.texts)

    @property
    def wanted(self) -> int:
        """See Entry."""
        return len(self.read.texts) - self._next

    def next(self, count: int) -> range:
        """The next texts, by their places."""
        self._next += count
        return range(self._next - count, self._next)

    def finish_text(self, text: int, logits: Float32) -> None:
        """A text has been read to its end: its log-probabilities are noted."""
        length = len(self.read.texts[text])
        kept = logits.copy() if self.read.has_logits else NO_LOGITS
        self._readings[text] = Reading(self.log_probs[text, : length + 1], kept)
        self._finished += 1
        self.characters += length + 1
        if self._finished == len(self._readings):
            self.answer(self._readings)


def entry_of(job: Job, number: int, root: Any, longest: int) -> Entry:
    """A job that begins; see DrawEntry and ReadEntry."""
    if isinstance(job, Read):
        return ReadEntry(job, number)
    assert isinstance(job, Draw)
    return DrawEntry(job, number, root, longest)
