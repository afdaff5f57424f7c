import gc
import tracemalloc
from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np

from serving.apart.frames import Frames, framed_plain, pickled
from serving.apart.wire import (
    LARGE,
    Message,
    Shared,
    Things,
    packed_answer,
    packed_job,
    unpacked_answer,
    unpacked_job,
)
from serving.constraints.automaton import Rules
from serving.constraints.masks import Bounds
from serving.constraints.taken import Known
from serving.engine.job import (
    Draw,
    FinishReason,
    Outcome,
    Read,
    Reading,
    Sample,
    Selection,
    Shortfall,
    Usage,
)
from serving.engine.sampling import SamplingParameters
from tests.serving.engine.test_samples import TEXTS, drawn

ALPHABET = tuple("abcdefgh")


def sent(message: Any) -> Any:
    """A plain message as it arrives."""
    (arrived,) = Frames(plain=True).feed(framed_plain(message))
    return arrived


class Ends:
    """Both ends of a wire, without the wire: jobs go through as they would."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.shared = Shared(self._share)
        self.things = Things()

    def _share(self, message: Message) -> None:
        kind, *rest = sent(message)
        self.sent.append((kind, *rest))
        if kind == "share":
            self.things.add(*rest)
        else:
            self.things.forget(*rest)

    def sink(self, samples: Sequence[Sample]) -> None:
        raise AssertionError("nothing is drawn here")

    def through(self, job: Any) -> Any:
        return unpacked_job(sent(packed_job(job, self.shared)), self.things, self.sink)


def draw(**settings: Any) -> Draw:
    return Draw([1, 2], 5, SamplingParameters(0.5, 3, 2**64 - 1, 0.9, 0.1), 8, **settings)


def bounds() -> Bounds:
    made = Bounds(Rules(pattern="[a-f]+").compile(ALPHABET), 2, 6000)
    assert made.is_satisfiable
    return made


def test_a_job_takes_no_block_that_is_much_larger_than_it_is() -> None:
    """Pickle takes four kilobytes and gives most back: what lies there meanwhile leaves a hole for good."""
    job = packed_job(draw(caller="me", deadline=9.0), Shared(print))

    def taken(make: Any) -> int:
        tracemalloc.start()
        make(("job", 1, job))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    assert taken(framed_plain) < 2048 < taken(pickled)


def test_a_plain_draw_arrives_whole_and_shares_nothing() -> None:
    ends = Ends()
    job = draw(start=2, collected=2, window=7, partial_at=3.5, caller="me", deadline=9.0)
    arrived = ends.through(job)
    for name in (
        "prefix",
        "n",
        "parameters",
        "max_length",
        "bounds",
        "start",
        "window",
        "collected",
    ):
        assert getattr(arrived, name) == getattr(job, name)
    assert (arrived.caller, arrived.deadline, arrived.partial_at) == ("me", 9.0, 3.5)
    assert arrived.selection.is_free
    assert arrived.characters == job.characters
    assert tuple(arrived.seeds) == ()
    assert ends.sent == []
    assert arrived.sink is None
    seeds = (2**64 - 1, 0, 3, 4, 5)
    assert ends.through(draw(seeds=seeds)).seeds == seeds
    assert ends.through(draw(sink=print)).sink == ends.sink


def test_a_selection_arrives_whole() -> None:
    known = Known(np.array([3, 5], np.uint64))
    selection = Selection(True, known, frozenset({"", "emma"}), True, bounds(), 7, True)
    arrived = Ends().through(draw(selection=selection)).selection
    assert arrived.is_unique
    assert arrived.complete_only
    assert arrived.normalized_only
    assert (arrived.excluded, arrived.max_attempts) == (selection.excluded, 7)
    assert arrived.known.sorted_fingerprints.tolist() == [3, 5]
    assert arrived.accepted.accepts([1, 2])
    assert not arrived.accepted.accepts([1, 8])


def test_what_jobs_share_goes_once_and_is_given_up_when_nobody_has_it() -> None:
    ends, rules = Ends(), bounds()
    first = ends.through(draw(bounds=rules.begun_with([1]))).bounds
    shared = len(ends.sent)
    assert {kind for kind, *_ in ends.sent} == {"share"}
    second = ends.through(draw(bounds=rules.begun_with([1, 2]))).bounds
    assert len(ends.sent) == shared
    assert second.automaton is first.automaton
    assert second.ends[1] is first.ends[1]
    assert (first._first, second._first) == (1, 2)
    del rules
    gc.collect()
    ends.through(draw(bounds=bounds()))
    (numbers,) = (numbers for kind, numbers, *_ in ends.sent if kind == "forget")
    assert len(numbers) == shared


def test_a_number_is_never_given_to_another_thing() -> None:
    """An array may lie where one that is gone has lain, and have its identity."""
    ends, values = Ends(), []
    for value in range(50):
        selection = Selection(known=Known(np.full(LARGE, value, np.uint64)))
        arrived = ends.through(draw(selection=selection)).selection.known
        values.append(int(arrived.sorted_fingerprints[0]))
    assert values == list(range(50))


def test_the_known_strings_of_the_model_are_not_sent_with_any_job() -> None:
    here, there = Known(np.arange(10**5, dtype=np.uint64)), Known(np.arange(3, dtype=np.uint64))
    ends = Ends()
    ends.shared, ends.things = Shared(ends._share, here), Things(there)
    message = packed_job(draw(selection=Selection(known=here)), ends.shared)
    assert len(framed_plain(message)) < 1000
    assert ends.sent == []
    arrived = unpacked_job(sent(message), ends.things, ends.sink)
    assert isinstance(arrived, Draw)
    assert arrived.selection.known is there


def test_texts_to_read_arrive() -> None:
    arrived = Ends().through(Read([[1, 2], [], array("i", [7])], caller="me"))
    assert [list(text) for text in arrived.texts] == [[1, 2], [], [7]]
    assert (arrived.caller, arrived.deadline, arrived.has_logits) == ("me", None, True)
    assert arrived.is_light
    assert not Ends().through(Read([[1]], has_logits=False)).has_logits
    assert not Ends().through(Read([[1]], is_bulk=True)).is_light


def test_an_outcome_comes_back_whole() -> None:
    samples = [
        Sample("emma", 0, FinishReason.END, -3.5, -3.25, 0.125, 2),
        Sample("", 3, FinishReason.MAX_LENGTH, float("-inf")),
    ]
    for made in (samples, [], drawn(*TEXTS), drawn(*TEXTS)[1:3]):
        outcome = Outcome(made, Usage(9, 2, rejected_known=4), Shortfall.ATTEMPTS)
        packed = sent(packed_answer(outcome))
        found = unpacked_answer(packed)
        assert found == outcome
        assert type(found.samples) is type(made)


def test_readings_come_back_bit_for_bit() -> None:
    random = np.random.default_rng(0)
    readings = [
        Reading(random.normal(size=length), random.normal(size=9).astype(np.float32))
        for length in (1, 5, 2)
    ]
    unpacked = unpacked_answer(sent(packed_answer(readings)))
    assert len(unpacked[1:]) == 2
    for found, wanted in zip(unpacked, readings, strict=True):
        assert found.log_probs.tobytes() == wanted.log_probs.tobytes()
        assert found.logits.tobytes() == wanted.logits.tobytes()
        assert found.logits.dtype == np.float32
