"""Jobs and what they come to, as they go to and fro between a server and its engines' process."""

import io
import pickle
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any

import numpy as np

from serving.apart.frames import pickled
from serving.constraints.automaton import Automaton
from serving.constraints.taken import Known
from serving.engine.job import (
    FINISH_REASONS,
    Draw,
    FinishReason,
    Job,
    Outcome,
    Read,
    Reading,
    Sample,
    Selection,
    Shortfall,
    Sink,
    Usage,
)
from serving.engine.samples import Samples, sample_type
from serving.engine.sampling import SamplingParameters

Message = tuple[Any, ...]
LARGE = 4096
"""Bytes from which on an array that several jobs share is sent once."""
KNOWN = 0
"""Number of the model's set of known strings, which both ends have from the beginning."""
FREE = Selection()
_counts = attrgetter(*(field.name for field in fields(Usage)))


class Shared:
    """The large things that jobs have in common, at the end that sends: each goes once.

    Args:
        send: is given the messages that must come before the job's.
        known: the model's set of known strings.
    """

    def __init__(self, send: Callable[[Message], None], known: Known | None = None) -> None:
        self._send = send
        self._known = known
        self._numbers: dict[int, int] = {}  # by id
        self._gone: deque[tuple[int, int]] = deque()  # from any thread
        self._last = 0

    def pickled(self, value: object) -> bytes:
        """A value without the things that it shares, which were sent."""
        if self._gone:
            self._forget()
        file = io.BytesIO()
        pickler = pickle.Pickler(file, pickle.HIGHEST_PROTOCOL)
        pickler.persistent_id = self._number_of  # type: ignore[method-assign]
        pickler.dump(value)
        return file.getvalue()

    def _number_of(self, thing: Any) -> int | None:
        if thing is self._known and thing is not None:
            return KNOWN
        is_large = isinstance(thing, np.ndarray) and thing.nbytes >= LARGE
        if not is_large and not isinstance(thing, Automaton):
            return None
        number = self._numbers.get(id(thing))
        if number is None:
            number = self._last = self._last + 1
            self._numbers[id(thing)] = number
            weakref.finalize(thing, self._gone.append, (id(thing), number)).atexit = False
            self._send(("share", number, pickled(thing)))
        return number

    def _forget(self) -> None:
        gone = [self._gone.popleft() for _ in range(len(self._gone))]
        for identity, number in gone:
            if self._numbers.get(identity) == number:
                del self._numbers[identity]
        self._send(("forget", [number for _, number in gone]))


class Things:
    """The same at the end that receives."""

    def __init__(self, known: Known | None = None) -> None:
        self._things: dict[int, Any] = {KNOWN: known}

    def add(self, number: int, thing: bytes) -> None:
        """Something that jobs will share, pickled."""
        self._things[number] = pickle.loads(thing)

    def forget(self, numbers: Sequence[int]) -> None:
        """No job will ask for these any more."""
        for number in numbers:
            self._things.pop(number, None)

    def unpickled(self, data: bytes) -> Any:
        """What was pickled by Shared."""
        unpickler = pickle.Unpickler(io.BytesIO(data))
        unpickler.persistent_load = self._things.__getitem__  # type: ignore[method-assign]
        return unpickler.load()


def packed_job(job: Job, shared: Shared) -> Message:
    """A job without what belongs to one process."""
    if isinstance(job, Read):
        return (job.caller, job.deadline, job.texts)
    assert isinstance(job, Draw)
    rules = None
    if job.bounds is not None or not job.selection.is_free:
        rules = shared.pickled((job.bounds, job.selection))
    p = job.parameters
    return (
        *(job.caller, job.deadline, job.prefix, job.n),
        (p.temperature, p.top_k, p.seed, p.top_p, p.min_p),
        *(job.max_length, rules, job.start, job.sink is not None, job.window, job.partial_at),
        job.collected,
        job.seeds,
    )


def unpacked_job(message: Message, things: Things, sink: Sink) -> Job:
    """The job of `packed_job`, with this sink if it had one."""
    caller, deadline, *rest = message
    if len(rest) == 1:
        return Read(rest[0], caller=caller, deadline=deadline)
    prefix, n, parameters, max_length, rules, start, has_sink, window, *last = rest
    partial_at, collected, seeds = last
    bounds, selection = things.unpickled(rules) if rules else (None, FREE)
    return Draw(
        prefix,
        n,
        SamplingParameters(*parameters),
        max_length,
        bounds,
        selection,
        start,
        sink if has_sink else None,
        window,
        partial_at=partial_at,
        collected=collected,
        seeds=seeds,
        caller=caller,
        deadline=deadline,
    )


def packed_samples(samples: Sequence[Sample]) -> list[Message] | Message:
    """Samples as plain tuples, or as a tuple of columns."""
    if isinstance(samples, Samples):
        return (samples.records["text"].shape[1], samples.records.tobytes())
    return [
        (
            s.text,
            s.index,
            s.finish_reason is FinishReason.END,
            s.log_prob,
            s.sampling_log_prob,
            s.log_weight,
            s.attempts,
        )
        for s in samples
    ]


def unpacked_samples(packed: list[Message] | Message) -> Sequence[Sample]:
    """See packed_samples."""
    if isinstance(packed, tuple):
        longest, records = packed
        return Samples(np.frombuffer(records, sample_type(longest)))
    return [
        Sample(text, index, FINISH_REASONS[has_end], *rest)
        for text, index, has_end, *rest in packed
    ]


def packed_answer(value: Any) -> Message:
    """What a job has come to."""
    if isinstance(value, Outcome):
        shortfall = value.shortfall and value.shortfall.name
        return (packed_samples(value.samples), _counts(value.usage), shortfall)
    readings: list[Reading] = value
    lengths = [len(reading.log_probs) for reading in readings]
    log_probs = np.concatenate([reading.log_probs for reading in readings])  # [sum of T + 1]
    logits = np.stack([reading.logits for reading in readings])  # [texts, V]
    return (pickled((lengths, log_probs, logits)),)


def unpacked_answer(packed: Message) -> Any:
    """See packed_answer."""
    if len(packed) > 1:
        samples, usage, shortfall = packed
        return Outcome(unpacked_samples(samples), Usage(*usage), shortfall and Shortfall[shortfall])
    lengths, log_probs, logits = pickle.loads(packed[0])
    ends = np.cumsum(lengths)[:-1]
    return [
        Reading(part, last) for part, last in zip(np.split(log_probs, ends), logits, strict=True)
    ]
