import random

import numpy as np
import pytest

from serving.engine.drafts import FreeDrafts
from serving.engine.job import Draw, FinishReason, Sample
from serving.engine.rows import record_type
from serving.engine.samples import Samples, ended, together
from serving.engine.sampling import SamplingParameters
from serving.vocabulary import BOUNDARY, Vocabulary

VOCABULARY = Vocabulary(("a", "é", "\U0001f600"))
LONGEST = 6


def drawn(*texts: str, first: int = 0, simple: bool = True) -> Samples:
    """Rows that have drawn these texts, as samples; those that are as long as may be are cut."""
    rows = np.zeros(len(texts), record_type(LONGEST))
    rows["text"] = 77  # which no character has: what does not count is not looked at
    rows["text"] %= len(VOCABULARY)
    for number, (row, text) in enumerate(zip(rows, texts, strict=True)):
        row["text"][: len(text)] = VOCABULARY.encode(text)
        row["length"], row["index"] = len(text), first + number
        row["token"] = BOUNDARY if len(text) < LONGEST else 1
    rows["simple"] = simple
    rows["log_prob"], rows["sampling_log_prob"] = -1.5 * rows["length"], -0.5
    rows["log_weight"], rows["attempt"] = 0.25, 3
    return Samples.of(rows, VOCABULARY)


def plainly(*texts: str, first: int = 0, simple: bool = True) -> list[Sample]:
    return [
        Sample(
            text,
            first + number,
            FinishReason.END if len(text) < LONGEST else FinishReason.MAX_LENGTH,
            -1.5 * len(text),
            -1.5 * len(text) if simple else -0.5,
            0.25,
            4,
        )
        for number, text in enumerate(texts)
    ]


TEXTS = ("aé", "", "\U0001f600" * LONGEST, "éa\U0001f600", "a")


@pytest.mark.parametrize("simple", [True, False])
def test_columns_are_the_objects_that_they_stand_for(simple: bool) -> None:
    samples, wanted = drawn(*TEXTS, simple=simple), plainly(*TEXTS, simple=simple)
    assert list(samples) == wanted
    assert [type(value) for value in vars_of(samples[0])] == [
        *(str, int, FinishReason, float, float, float, int)
    ]
    assert len(samples) == len(TEXTS)
    assert [samples[place] for place in (0, 2, -1)] == [wanted[place] for place in (0, 2, -1)]
    assert samples[1:4] == wanted[1:4]
    assert samples != wanted[1:]
    assert samples == samples[:]
    with pytest.raises(IndexError):
        samples[len(TEXTS)]
    assert list(samples[:0]) == []


def vars_of(sample: Sample) -> list[object]:
    return [getattr(sample, name) for name in Sample.__slots__]


def test_those_that_end_by_themselves_are_counted() -> None:
    assert ended(drawn(*TEXTS)) == ended(plainly(*TEXTS)) == 4


def test_parts_are_put_together_as_columns_only_if_all_are() -> None:
    first, second = drawn("a", "é"), drawn("aa", first=2)
    wanted = plainly("a", "é", "aa")
    whole = together([first, second])
    assert isinstance(whole, Samples)
    assert whole == wanted
    assert together([first, list(second)]) == wanted
    assert together([list(first), second]) == wanted
    assert together([]) == []
    assert together([first]) is first


@pytest.mark.parametrize("singly", [0.0, 0.3])
def test_drafts_become_samples_in_order_however_they_come(singly: float) -> None:
    chance = random.Random(7)
    texts = ["a" * (number % LONGEST) for number in range(300)]
    start = 20
    every = drawn(*texts)
    order = list(range(start, len(texts)))
    chance.shuffle(order)
    order.sort(key=lambda index: index // 40)  # as far as rows are apart
    drafts = FreeDrafts(Draw([], len(texts), SamplingParameters(), LONGEST, start=start))
    found: list[Sample] = []
    while order:
        count = chance.randint(1, 9)
        some, order = order[:count], order[count:]
        if chance.random() < singly:
            for index in some:
                drafts.finish(every[index])
        else:
            drafts.finish_all(Samples(every.records[some]))
        accepted = drafts.accepted()
        assert drafts.resolved == start + len(found) + len(accepted)
        found.extend(accepted)
    assert found == plainly(*texts)[start:]
    assert drafts.is_complete
    assert drafts.usage.samples == len(found)
