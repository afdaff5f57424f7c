"""Strings of one job that have a seed each."""

import random
import re
from typing import Any

import pytest

from serving.constraints.automaton import Rules
from serving.constraints.masks import Bounds
from serving.engine.engine import Engine
from serving.engine.reference import generate
from serving.engine.rows import AHEAD
from serving.engine.sampling import SamplingParameters
from serving.testing import FakeSession
from tests.serving.engine.test_engine import job


@pytest.mark.parametrize("prefix", ["", "cab"])
@pytest.mark.parametrize("cache", [0, 64 << 20])
@pytest.mark.parametrize("settings", [{}, {"temperature": 1.5, "top_k": 3}, {"top_p": 0.9}])
def test_strings_of_a_seed_each_are_the_first_of_their_seeds(
    prefix: str, cache: int, settings: dict[str, Any]
) -> None:
    """Through few rows, amid another job; texts are longer than the numbers that are made at once."""
    session = FakeSession(max_length=40)
    engine = Engine(session, 7, cache)
    engine.start()
    many = job(400, prefix, 40, **settings)
    many.seeds = [random.Random(place).randrange(2**64) for place in range(400)]
    engine.submit(job(n=300, max_length=40))
    engine.submit(many)
    found = many.result.result(30).samples
    engine.stop()
    firsts = [
        generate(session, many.prefix, 1, SamplingParameters(seed=seed, **settings), 40)[0]
        for seed in many.seeds
    ]
    assert [sample.index for sample in found] == list(range(400))
    assert [sample.text for sample in found] == [sample.text for sample in firsts]
    assert [s.log_prob for s in found] == pytest.approx([s.log_prob for s in firsts], abs=1e-12)
    assert max(len(sample.text) - len(prefix) for sample in found) > AHEAD


def test_strings_of_a_seed_each_keep_to_bounds_as_those_of_one_seed_do(engine: Engine) -> None:
    bounds = Bounds(Rules(pattern="(ab|c)*").compile(tuple("abc")), 2, 8)
    many = job(60)
    many.seeds, many.bounds = range(60), bounds.begun_with([])
    alone = [job(1, seed=seed) for seed in range(60)]
    for each in alone:
        each.bounds = bounds.begun_with([])
    for each in (many, *alone):
        engine.submit(each)
    found = many.result.result(30).samples
    firsts = [each.result.result(30).samples[0] for each in alone]
    assert [(s.text, s.log_weight) for s in found] == [(s.text, s.log_weight) for s in firsts]
    assert all(re.fullmatch("(ab|c)*", sample.text) for sample in found)
