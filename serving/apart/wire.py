"""Jobs and what they come to, as they go to and fro between a server and its engines' process."""

import io
import pickle
import weakref
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from itertools import accumulate, pairwise
from operator import attrgetter
from typing import Any, overload

import numpy as np

from serving.apart.frames import pickled
from serving.constraints.automaton import Automaton
from serving.constraints.taken import Known
from serving.engine.job import (
    FINISH_REASONS,
    IDS,
    Draw,
    FinishReason,
    Ids,
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
        texts = [text if isinstance(text, array) else array(IDS, text) for text in job.texts]
        packed = [len(text) for text in texts], b"".join([text.tobytes() for text in texts])
        return (job.caller, job.deadline, packed, job.has_logits, job.is_bulk)
    assert isinstance(job, Draw)
    rules = None
    if job.bounds is not None or not job.selection.is_free:
        # Pickled with what is shared, each of many strings would be asked whether it is.
        listless = replace(job.selection, excluded=frozenset())
        rules = shared.pickled((job.bounds, listless)), [*job.selection.excluded]
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
    if len(rest) == 3:
        texts, *how = rest
        return Read(texts_of(*texts), *how, caller=caller, deadline=deadline)
    prefix, n, parameters, max_length, rules, start, has_sink, window, *last = rest
    partial_at, collected, seeds = last
    bounds, selection = None, FREE
    if rules:
        bounds, listless = things.unpickled(rules[0])
        selection = replace(listless, excluded=frozenset(rules[1]))
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
    readings: Sequence[Reading] = value
    lengths = [len(reading.log_probs) for reading in readings]
    log_probs = np.concatenate([reading.log_probs for reading in readings])  # [sum of T + 1]
    logits = np.stack([reading.logits for reading in readings])  # [texts, V], or [texts, 0]
    return ((lengths, log_probs.tobytes(), logits.tobytes()),)


def unpacked_answer(packed: Message) -> Any:
    """See packed_answer."""
    if len(packed) > 1:
        samples, usage, shortfall = packed
        return Outcome(unpacked_samples(samples), Usage(*usage), shortfall and Shortfall[shortfall])
    return Readings(*packed[0])


class Readings(Sequence[Reading]):
    """Readings as columns: to make an object of each, at once, takes longer than all else.

    Args:
        lengths: of each one's log-probabilities.
        log_probs: float64, one after the other.
        logits: float32, as many of each.
    """

    def __init__(self, lengths: Sequence[int], log_probs: bytes, logits: bytes) -> None:
        self._log_probs = np.frombuffer(log_probs)  # [sum of T + 1]
        self._ends = list(accumulate(lengths))
        every = np.frombuffer(logits, np.float32)
        self._logits = every.reshape(len(lengths), len(every) // len(lengths))  # [texts, V]

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, place: int) -> Reading: ...
    @overload
    def __getitem__(self, place: slice) -> list[Reading]: ...
    def __getitem__(self, place: int | slice) -> Reading | list[Reading]:
        at = range(len(self))[place]
        if isinstance(at, range):
            return [self[one] for one in at]
        begin = self._ends[at - 1] if at else 0
        return Reading(self._log_probs[begin : self._ends[at]], self._logits[at])


def texts_of(lengths: Sequence[int], ids: bytes) -> list[Ids]:
    """Texts of these lengths, whose ids stand one after the other."""
    every = memoryview(ids).cast(IDS)
    return [every[begin:end] for begin, end in pairwise(accumulate(lengths, initial=0))]
