"""The largest answers: those that may be too large are refused before any work is done."""

import numpy as np
import pytest

from makemore.v1 import generation_service_pb2 as pb
from serving.api.reading import distribution_parts
from serving.api.sizes import (
    REST,
    distributions_size,
    joined,
    scores_size,
    strings_size,
)
from serving.api.streaming import FEWEST, WINDOW, WINDOW_BYTES, sample_bytes, window_of
from serving.engine.job import Reading
from serving.errors import InvalidArgument
from serving.limits import MAX_N, MAX_PREFIXES, MAX_TEXTS
from serving.manifest import MAX_LENGTH, Manifest
from serving.options import MAX_ANSWER, MAX_REQUEST
from serving.testing import FakeSession

HAN = "".join(map(chr, range(0x4E00, 0x5E00)))


def manifest(alphabet: str = "abc", max_length: int = MAX_LENGTH) -> Manifest:
    return FakeSession(alphabet, max_length).manifest


def test_distributions_of_many_prefixes_over_a_large_alphabet_are_refused_with_the_numbers() -> (
    None
):
    vocabulary = manifest(HAN).vocabulary
    with pytest.raises(InvalidArgument) as refused:
        distributions_size(MAX_PREFIXES, 0, vocabulary)
    assert refused.value.field == "prefixes"
    for number in ("1,024", "4,097", f"{MAX_ANSWER:,}"):
        assert number in refused.value.description
    assert "top" in refused.value.description
    assert distributions_size(MAX_PREFIXES, 10, vocabulary) < MAX_ANSWER
    assert distributions_size(200, 0, vocabulary) < MAX_ANSWER


@pytest.mark.parametrize("top", [0, 1, 7, 10_000])
def test_no_answer_with_distributions_is_larger_than_was_said(top: int) -> None:
    shape = manifest(HAN[:100])
    logits = np.linspace(-300, 0, 101, dtype=np.float32)
    readings = [Reading(np.zeros(1), logits)] * 50
    answer = joined(
        distribution_parts(readings, shape.alphabet, top),
        pb.NextCharactersResponse(model="models/fake@1", model_digest="0" * 64),
    )
    assert len(answer) <= distributions_size(50, top, shape.vocabulary)  # type: ignore[arg-type]
    assert len(answer) > distributions_size(50, top, shape.vocabulary) - REST - 50 * 16  # type: ignore[arg-type]


def test_the_longest_strings_there_can_be_fit_into_an_answer() -> None:
    assert strings_size(MAX_N, pb.Constraints(), manifest("a\U0001f600")) <= MAX_ANSWER
    assert strings_size(10**6, pb.Constraints(max_length=10**6), manifest("a")) <= MAX_ANSWER


def test_the_longest_sample_is_no_larger_than_was_said() -> None:
    sample = pb.Sample(
        text="\U0001f600" * MAX_LENGTH,
        index=2**31 - 1,
        finish_reason=pb.FINISH_REASON_MAX_LENGTH,
        log_prob=-1.5,
        sampling_log_prob=-1.5,
        log_weight=-1.5,
        attempts=2**31 - 1,
    )
    answer = pb.GenerateResponse(samples=[sample])
    said = strings_size(1, pb.Constraints(), manifest("\U0001f600"))
    assert answer.ByteSize() <= said - REST


def test_every_request_for_scores_has_an_answer_that_may_be_sent() -> None:
    """The most that one message brings: a character a byte, and every text's own fields."""
    request = pb.ScoreRequest(
        texts=["a" * (MAX_REQUEST // MAX_TEXTS - 4)] * MAX_TEXTS, characters=True
    )
    assert MAX_REQUEST - 2 * MAX_TEXTS < request.ByteSize() <= MAX_REQUEST
    assert scores_size(request) <= MAX_ANSWER
    texts = len(request.texts[0])
    score = pb.TextScore(
        status=pb.SCORE_STATUS_OK,
        log_prob=-1.5,
        bits_per_character=1.5,
        percentile=50.0,
        in_training=True,
        characters=[-1.5] * (texts + 1),
    )
    unknown = pb.TextScore(
        status=pb.SCORE_STATUS_UNKNOWN_CHARACTER, unknown_positions=range(MAX_LENGTH)
    )
    for one, count in ((score, MAX_TEXTS), (unknown, MAX_REQUEST // MAX_LENGTH)):
        assert count * (one.ByteSize() + 6) <= scores_size(request)


@pytest.mark.parametrize(("max_length", "window"), [(15, WINDOW), (MAX_LENGTH, FEWEST)])
def test_a_stream_that_nobody_reads_holds_little_however_long_its_strings(
    max_length: int, window: int
) -> None:
    shape = manifest(max_length=max_length)
    assert window_of(shape) == window
    assert window * sample_bytes(shape) <= 1.01 * WINDOW_BYTES
