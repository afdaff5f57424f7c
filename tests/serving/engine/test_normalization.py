"""Strings of alphabets whose characters compose: only those in NFC are drawn, on every path."""

from itertools import product

import pytest

from serving.engine.engine import Engine
from serving.engine.job import Draw, FinishReason, Outcome, Sample, Selection, Shortfall
from serving.engine.reference import drafts, generate
from serving.engine.sampling import SamplingParameters
from serving.testing import FakeSession
from serving.vocabulary import is_normalized

LONGEST = 4
ALPHABETS = {
    "a base with a mark": "eé\u0301",
    "marks in two orders": "x\u0301\u0323",
    "Hangul jamo": "\u1100\u1161\u11a8가",
    "a Tamil vowel of two parts": "\u0bc6\u0bbe\u0bcaக",
    "a character that is another one": "kK\u212a",
}
SAMPLING = SamplingParameters(seed=5)
NORMALIZED = Selection(normalized_only=True)


def drawn(session: FakeSession, job: Draw, rows: int = 16) -> Outcome:
    engine = Engine(session, rows, 1 << 20)
    engine.start()
    engine.submit(job)
    outcome: Outcome = job.result.result(30)
    engine.stop()
    return outcome


def plainly(session: FakeSession, prefix: list[int], n: int) -> list[Sample]:
    """The first attempt of each index that is in NFC."""
    found = []
    for index in range(n):
        attempt = 0
        while True:
            [draft] = drafts(session, prefix, [(index, attempt)], SAMPLING, LONGEST)
            if is_normalized(draft.text):
                break
            attempt += 1
        found.append(draft)
    return found


@pytest.mark.parametrize("alphabet", ALPHABETS.values(), ids=ALPHABETS)
@pytest.mark.parametrize("rows", [5, 64])
@pytest.mark.parametrize("start", [0, 30])
def test_a_string_that_is_not_in_nfc_is_drawn_again(alphabet: str, rows: int, start: int) -> None:
    session = FakeSession(alphabet, LONGEST)
    wanted = plainly(session, [1], 100)
    job = Draw([1], 100, SAMPLING, LONGEST, None, NORMALIZED, start=start)
    outcome = drawn(session, job, rows)
    assert list(outcome.samples) == wanted[start:]
    assert outcome.usage.rejected_pattern == sum(sample.attempts - 1 for sample in wanted[start:])
    assert outcome.usage.rejected_pattern > 0
    assert generate(session, [1], 100, SAMPLING, LONGEST) == wanted


@pytest.mark.parametrize("alphabet", ALPHABETS.values(), ids=ALPHABETS)
def test_drawing_without_replacement_gives_every_string_in_nfc_once(alphabet: str) -> None:
    session = FakeSession(alphabet, LONGEST)
    selection = Selection(is_unique=True, normalized_only=True, max_attempts=10_000)
    outcome = drawn(session, Draw([], 1000, SAMPLING, LONGEST, None, selection))
    texts = [sample.text for sample in outcome.samples]
    every = ("".join(text) for n in range(LONGEST + 1) for text in product(alphabet, repeat=n))
    assert sorted(texts) == sorted(filter(is_normalized, every))
    assert outcome.shortfall is Shortfall.SPACE_EXHAUSTED


def test_all_that_begins_with_a_text_not_in_nfc_is_taken_out_together() -> None:
    """The strings of 40 characters that begin with a composing pair would be too many to take one by one."""
    session = FakeSession("e\u0301", 40)
    selection = Selection(is_unique=True, normalized_only=True, max_attempts=10_000)
    outcome = drawn(session, Draw([1], 1000, SAMPLING, 40, None, selection))
    assert [sample.text for sample in outcome.samples].count("e") == 1
    assert {"e" * n for n in range(1, 41)} == {sample.text for sample in outcome.samples}
    assert outcome.shortfall is Shortfall.SPACE_EXHAUSTED


def test_a_prefix_whose_every_continuation_composes_gives_no_string_but_itself() -> None:
    session = FakeSession("e\u0301", 2)
    selection = Selection(normalized_only=True, complete_only=True, max_attempts=10_000)
    outcome = drawn(session, Draw([1], 50, SAMPLING, 2, None, selection))
    for sample in outcome.samples:
        assert sample.text in ("e", "ee")
        assert sample.finish_reason is FinishReason.END
