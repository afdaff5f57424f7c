"""What a job with constraints comes to, beside the plain way: index after index, attempt after attempt."""

import random
from collections.abc import Iterator

import pytest

from serving.constraints.automaton import Rules
from serving.constraints.masks import Bounds
from serving.constraints.taken import Known
from serving.engine.drafts import ENOUGH_ATTEMPTS
from serving.engine.engine import Engine
from serving.engine.job import Draw, FinishReason, Outcome, Sample, Selection, Shortfall
from serving.engine.reference import drafts
from serving.engine.sampling import SamplingParameters
from serving.fingerprint import fingerprints
from serving.testing import FakeSession

LONGEST = 8
SESSION = FakeSession(max_length=LONGEST)
ALPHABET = SESSION.manifest.alphabet


def is_wanted(draft: Sample, selection: Selection, before: set[str]) -> bool:
    ids = SESSION.manifest.vocabulary.encode(draft.text)
    return not (
        (selection.complete_only and draft.finish_reason is FinishReason.MAX_LENGTH)
        or draft.text in selection.excluded
        or (selection.known is not None and draft.text in selection.known)
        or (selection.is_unique and draft.text in before)
        or (selection.accepted is not None and not selection.accepted.accepts(ids))
    )


def plainly(job: Draw) -> tuple[list[Sample], bool]:
    """The samples up to the first that takes too many attempts, and whether there was one."""
    found: list[Sample] = []
    for index in range(job.n):
        for attempt in range(min(ENOUGH_ATTEMPTS, max(1, job.selection.max_attempts // 2))):
            [draft] = drafts(
                SESSION, job.prefix, [(index, attempt)], job.parameters, job.max_length, job.bounds
            )
            if is_wanted(draft, job.selection, {sample.text for sample in found}):
                found.append(draft)
                break
        else:
            return found, True
    return found, False


def any_job(chance: random.Random) -> Draw:
    prefix = [chance.randint(1, 3) for _ in range(chance.choice([0, 0, 1, 3]))]
    longest = chance.randint(max(1, len(prefix)), LONGEST)
    bounds = None
    if chance.random() < 0.5:
        pattern = chance.choice(["", "(ab|c)*.*", "[^b]*", "a?.*c", ".*"])
        rules = Rules(pattern, forbidden_substrings=chance.choice([(), ("aa", "bcb")]))
        bounds = Bounds(rules.compile(ALPHABET), chance.choice([0, 0, 2, 4]), longest, prefix)
        bounds = bounds if bounds.is_satisfiable else None
    is_exact = chance.random() < 0.4
    selection = Selection(
        is_unique=chance.random() < 0.5,
        known=Known(fingerprints(["a", "ab", "c", "cab", "b"])) if chance.random() < 0.3 else None,
        excluded=frozenset(["ac", "bb"]) if chance.random() < 0.3 else frozenset(),
        complete_only=chance.random() < 0.3,
        accepted=bounds if is_exact else None,
        max_attempts=chance.choice([100, 100, 5, 1]),
    )
    parameters = SamplingParameters(
        temperature=chance.choice([1, 1, 0.7, 2, 0]),
        top_k=chance.choice([0, 0, 2]),
        top_p=chance.choice([1, 1, 0.9]),
        min_p=chance.choice([0, 0, 0.05]),
        seed=chance.randint(0, 2**64 - 1),
    )
    bounds = None if is_exact else bounds
    return Draw(prefix, chance.randint(1, 30), parameters, longest, bounds, selection)


@pytest.fixture(params=[(64 << 20, 16), (0, 5), (1, 7)], ids=["tree", "no tree", "least tree"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    cache, rows = request.param
    engine = Engine(FakeSession(max_length=LONGEST), max_rows=rows, prefix_cache=cache)
    engine.start()
    yield engine
    engine.stop()


def run(engine: Engine, job: Draw) -> Outcome:
    engine.submit(job)
    outcome: Outcome = job.result.result(30)
    return outcome


def sums(sample: Sample) -> list[float]:
    return [sample.log_prob, sample.sampling_log_prob, sample.log_weight]


@pytest.mark.parametrize("seed", range(3))
def test_any_job_amid_others_comes_to_what_the_plain_way_comes_to(
    engine: Engine, seed: int
) -> None:
    chance = random.Random(seed)
    jobs = [any_job(chance) for _ in range(40)]
    for job in jobs:
        engine.submit(job)
    for job in jobs:
        outcome: Outcome = job.result.result(30)
        wanted, is_stuck = plainly(job)
        found = outcome.samples[: len(wanted)]
        assert [(s.text, s.index, s.finish_reason, s.attempts) for s in found] == [
            (s.text, s.index, s.finish_reason, s.attempts) for s in wanted
        ]
        for one, other in zip(found, wanted, strict=True):
            assert sums(one) == pytest.approx(sums(other), abs=1e-9)
        assert is_stuck or len(outcome.samples) == job.n
        assert (outcome.shortfall is None) == (len(outcome.samples) == job.n)
        earlier: set[str] = set()
        for sample in outcome.samples:
            assert is_wanted(sample, job.selection, earlier)
            earlier.add(sample.text)


def bounded(pattern: str, longest: int) -> Bounds:
    return Bounds(Rules(pattern).compile(ALPHABET), 0, longest)


@pytest.mark.parametrize("is_exact", [False, True])
def test_all_strings_there_are_come_and_the_answer_says_that_there_are_no_more(
    engine: Engine, is_exact: bool
) -> None:
    bounds = bounded("(a|b)(a|c)?", LONGEST)
    selection = Selection(
        is_unique=True, accepted=bounds if is_exact else None, max_attempts=10_000
    )
    job = Draw(
        [], 100, SamplingParameters(seed=3), LONGEST, None if is_exact else bounds, selection
    )
    outcome = run(engine, job)
    texts = [sample.text for sample in outcome.samples]
    assert sorted(texts) == ["a", "aa", "ac", "b", "ba", "bc"]
    assert outcome.shortfall is Shortfall.SPACE_EXHAUSTED
    assert outcome.usage.samples == 6


def test_with_only_known_strings_there_is_nothing(engine: Engine) -> None:
    known = Known(fingerprints(["a", "b", "aa"]))
    job = Draw(
        [],
        5,
        SamplingParameters(seed=3),
        LONGEST,
        bounded("a|b|aa", LONGEST),
        Selection(known=known),
    )
    outcome = run(engine, job)
    assert outcome.samples == []
    assert outcome.shortfall is Shortfall.SPACE_EXHAUSTED
    assert outcome.usage.rejected_known >= 3


def test_the_most_likely_string_comes_once(engine: Engine) -> None:
    job = Draw([], 3, SamplingParameters(temperature=0), LONGEST, None, Selection(is_unique=True))
    outcome = run(engine, job)
    assert len(outcome.samples) == 1
    assert outcome.shortfall is Shortfall.SPACE_EXHAUSTED


def test_too_many_attempts_end_it(engine: Engine) -> None:
    bounds = bounded("cccc", LONGEST)
    job = Draw(
        [], 5, SamplingParameters(seed=1), LONGEST, None, Selection(accepted=bounds, max_attempts=3)
    )
    outcome = run(engine, job)
    assert outcome.shortfall is Shortfall.ATTEMPTS
    assert outcome.usage.rejected_pattern >= 3


def test_a_smaller_n_gives_the_first_of_a_larger_under_every_constraint(engine: Engine) -> None:
    chance = random.Random(9)
    for _ in range(20):
        many = any_job(chance)
        few = Draw(
            many.prefix, max(1, many.n // 3), many.parameters, many.max_length, many.bounds,
            many.selection,
        )  # fmt: skip
        wanted = run(engine, many).samples[: few.n]
        assert run(engine, few).samples == wanted


def test_a_job_that_starts_later_gives_the_rest(engine: Engine) -> None:
    chance = random.Random(10)
    for _ in range(20):
        whole = any_job(chance)
        rest = Draw(
            whole.prefix, whole.n, whole.parameters, whole.max_length, whole.bounds, whole.selection,
            start=whole.n // 2,
        )  # fmt: skip
        found = run(engine, rest).samples
        samples = run(engine, whole).samples
        if whole.selection.is_unique or len(samples) == whole.n:
            assert found == [sample for sample in samples if sample.index >= rest.start]
