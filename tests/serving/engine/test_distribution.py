"""What is drawn under every constraint has the distribution that an enumerable model says."""

import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from serving.constraints.automaton import Rules
from serving.constraints.masks import Bounds
from serving.constraints.taken import Known
from serving.engine.engine import Engine
from serving.engine.job import Draw, FinishReason, Outcome, Selection
from serving.engine.sampling import SamplingParameters
from serving.engine.stepping import initial_states
from serving.fingerprint import fingerprints
from serving.testing import FakeSession

LONGEST = 3
ALPHABET = "ab"
SESSION = FakeSession(ALPHABET, LONGEST)
DRAWS = 20_000
FREE = Selection()
Table = dict[tuple[str, bool], float]  # text, whether it is cut: probability


def conditional(text: str) -> list[float]:
    """Probabilities of the end, a, b after a text, as the model has them."""
    states = initial_states(SESSION.manifest.states, 1)
    for token in (0, *SESSION.manifest.vocabulary.encode(text)):
        logits, states = SESSION.step(np.array([token]), states)
    weights = [math.exp(x) for x in logits[0].tolist()]
    return [weight / sum(weights) for weight in weights]


def heated(probabilities: list[float], temperature: float) -> list[float]:
    weights = [p ** (1 / temperature) for p in probabilities]
    return [weight / sum(weights) for weight in weights]


def best(probabilities: list[float], k: int) -> list[float]:
    least = sorted(probabilities)[-k]
    kept = [p if p >= least else 0.0 for p in probabilities]
    return [p / sum(kept) for p in kept]


def nucleus(probabilities: list[float], top_p: float) -> list[float]:
    total, kept = 0.0, [0.0] * len(probabilities)
    for place in sorted(range(len(probabilities)), key=lambda i: -probabilities[i]):
        if total < top_p:
            kept[place] = probabilities[place]
        total += probabilities[place]
    return [p / sum(kept) for p in kept]


def above(probabilities: list[float], min_p: float) -> list[float]:
    kept = [p if p >= min_p * max(probabilities) else 0.0 for p in probabilities]
    return [p / sum(kept) for p in kept]


def masked(pattern: str, shortest: int = 0) -> Callable[[str, list[float]], list[float]]:
    """The conditionals without what leads to no string that matches."""
    whole = [
        "".join(letters)
        for n in range(shortest, LONGEST + 1)
        for letters in itertools.product(ALPHABET, repeat=n)
    ]
    right = {text for text in whole if re.fullmatch(pattern, text)}

    def step(text: str, probabilities: list[float]) -> list[float]:
        if len(text) == LONGEST:
            return probabilities
        leads = [text in right] + [any(w.startswith(text + c) for w in right) for c in ALPHABET]
        kept = [p if lead else 0.0 for p, lead in zip(probabilities, leads, strict=True)]
        return [p / sum(kept) for p in kept]

    return step


def table(step: Callable[[str, list[float]], list[float]] = lambda text, p: p) -> Table:
    """The probability of every string, cut or not."""
    found: Table = {}

    def go(text: str, mass: float) -> None:
        if mass == 0:
            return
        end, *others = step(text, conditional(text))
        found[text, False] = mass * end
        if len(text) == LONGEST:
            found[text, True] = mass * sum(others)
            return
        for character, probability in zip(ALPHABET, others, strict=True):
            go(text + character, mass * probability)

    go("", 1.0)
    return {key: mass for key, mass in found.items() if mass > 0}


def given(whole: Table, is_wanted: Callable[[str, bool], bool]) -> Table:
    """The distribution among the strings that are wanted."""
    kept = {key: mass for key, mass in whole.items() if is_wanted(*key)}
    return {key: mass / sum(kept.values()) for key, mass in kept.items()}


def assert_fits(counts: Counter[Any], expected: dict[Any, float]) -> None:
    """Pearson's chi-square, by Wilson and Hilferty's approximation less than four deviations off."""
    assert set(counts) <= set(expected)
    total = sum(counts.values())
    rare = [
        key for key, mass in expected.items() if mass * total < 5
    ]  # too few for the approximation
    if rare:
        counts, expected = Counter(counts), dict(expected)
        counts["rare"] = sum(counts.pop(key, 0) for key in rare)
        expected["rare"] = sum(expected.pop(key) for key in rare)
    statistic = sum(
        (counts[key] - total * mass) ** 2 / (total * mass) for key, mass in expected.items()
    )
    freedom = len(expected) - 1
    if freedom == 0:
        return
    spread = 2 / (9 * freedom)
    assert ((statistic / freedom) ** (1 / 3) - (1 - spread)) / math.sqrt(spread) < 4


@pytest.fixture(scope="module", params=[0, 64 << 20], ids=["no tree", "tree"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    engine = Engine(FakeSession(ALPHABET, LONGEST), prefix_cache=request.param)
    engine.start()
    yield engine
    engine.stop()


def drawn(
    engine: Engine,
    bounds: Bounds | None = None,
    selection: Selection = FREE,
    **settings: Any,
) -> Counter[tuple[str, bool]]:
    job = Draw([], DRAWS, SamplingParameters(seed=11, **settings), LONGEST, bounds, selection)
    engine.submit(job)
    outcome: Outcome = job.result.result(60)
    assert len(outcome.samples) == DRAWS
    cut = FinishReason.MAX_LENGTH
    return Counter((sample.text, sample.finish_reason is cut) for sample in outcome.samples)


def bounds(pattern: str, shortest: int = 0) -> Bounds:
    return Bounds(Rules(pattern).compile(tuple(ALPHABET)), shortest, LONGEST)


@pytest.mark.parametrize(
    ("settings", "step"),
    [
        ({}, lambda text, p: p),
        ({"temperature": 0.5}, lambda text, p: heated(p, 0.5)),
        ({"temperature": 2.0}, lambda text, p: heated(p, 2.0)),
        ({"top_k": 2}, lambda text, p: best(p, 2)),
        ({"top_p": 0.7}, lambda text, p: nucleus(p, 0.7)),
        ({"min_p": 0.4}, lambda text, p: above(p, 0.4)),
        (
            {"temperature": 2.0, "top_k": 2, "top_p": 0.8, "min_p": 0.3},
            lambda text, p: above(nucleus(best(heated(p, 2.0), 2), 0.8), 0.3),
        ),
    ],
)
def test_settings_draw_what_they_say(engine: Engine, settings: dict[str, Any], step: Any) -> None:
    assert_fits(drawn(engine, **settings), table(step))


@pytest.mark.parametrize(("pattern", "shortest"), [("a.*", 0), (".*", 2), ("(ab|b)*", 1)])
def test_masks_draw_in_proportion_at_every_step(
    engine: Engine, pattern: str, shortest: int
) -> None:
    counts = drawn(engine, bounds(pattern, shortest))
    assert_fits(counts, table(masked(pattern, shortest)))


@pytest.mark.parametrize("attempts", [10_000, 2], ids=["drawing again", "without replacement"])
@pytest.mark.parametrize(
    ("selection", "is_wanted"),
    [
        ({"complete_only": True}, lambda text, is_cut: not is_cut),
        ({"known": ["a", "ab", "bbb"]}, lambda text, is_cut: text not in ("a", "ab", "bbb")),
        ({"excluded": ["", "b"]}, lambda text, is_cut: text not in ("", "b")),
        ({"accepted": ("(a|bb).*", 1)}, lambda text, is_cut: text[:1] == "a" or text[:2] == "bb"),
    ],
)
def test_what_is_drawn_again_has_the_conditional_distribution(
    engine: Engine, selection: dict[str, Any], is_wanted: Any, attempts: int
) -> None:
    chosen = dict(selection)
    if "known" in chosen:
        chosen["known"] = Known(fingerprints(chosen["known"]))
    if "accepted" in chosen:
        chosen["accepted"] = bounds(*chosen["accepted"])
    chosen["excluded"] = frozenset(chosen.get("excluded", ()))
    wanted = given(table(), is_wanted)
    if attempts > 2:
        counts = drawn(engine, selection=Selection(max_attempts=attempts, **chosen))
        assert_fits(counts, wanted)
        return
    # A job of its own for each string: what one gave up on, its next drafts do without.
    jobs = [
        Draw(
            [],
            1,
            SamplingParameters(seed=seed),
            LONGEST,
            None,
            Selection(max_attempts=100, **chosen),
        )
        for seed in range(4000)
    ]
    assert_fits(first_of(engine, jobs), wanted)


def first_of(engine: Engine, jobs: list[Draw]) -> Counter[tuple[str, bool]]:
    for job in jobs:
        engine.submit(job)
    samples = [job.result.result(60).samples[0] for job in jobs]
    return Counter((s.text, s.finish_reason is FinishReason.MAX_LENGTH) for s in samples)


@pytest.mark.parametrize("patience", [1, 64], ids=["without replacement", "drawing again"])
def test_strings_without_repeats_are_drawn_as_without_putting_back(
    engine: Engine, patience: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.engine.drafts.ENOUGH_ATTEMPTS", patience)
    whole: dict[str, float] = {}
    for (text, _), mass in table().items():
        whole[text] = whole.get(text, 0.0) + mass
    pairs = {
        (one, other): whole[one] * whole[other] / (1 - whole[one])
        for one in whole
        for other in whole
        if one != other
    }
    jobs = [
        Draw([], 2, SamplingParameters(seed=seed), LONGEST, None, Selection(is_unique=True))
        for seed in range(6000)
    ]
    for job in jobs:
        engine.submit(job)
    counts = Counter(tuple(s.text for s in job.result.result(60).samples) for job in jobs)
    assert_fits(counts, pairs)


def test_weights_turn_masked_draws_into_the_exact_conditional(engine: Engine) -> None:
    job = Draw([], DRAWS, SamplingParameters(seed=3), LONGEST, bounds("a.*|b"), Selection())
    engine.submit(job)
    mass: Counter[str] = Counter()
    for sample in job.result.result(60).samples:
        mass[sample.text] += math.exp(sample.log_weight)  # type: ignore[assignment]
    exact: Counter[str] = Counter()
    for (text, _), probability in table().items():
        if text == "b" or text.startswith("a"):
            exact[text] += probability  # type: ignore[assignment]
    for text in exact:
        assert mass[text] / mass.total() == pytest.approx(exact[text] / exact.total(), abs=0.01)
    # The mean weight is the probability that a free draw would have fitted.
    assert mass.total() / DRAWS == pytest.approx(exact.total(), rel=0.02)
