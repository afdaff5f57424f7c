"""A row that has a lane for itself, and leaves the tree where nobody else will come by."""

import math
import random
from collections.abc import Callable
from itertools import count

import numpy as np
import pytest

from serving.engine import compiled, solo
from serving.engine import rows as table
from serving.engine.contexts import Contexts, Private, after_boundary
from serving.engine.engine import Engine
from serving.engine.entry import DrawEntry
from serving.engine.job import Draw, Outcome
from serving.engine.rows import Records
from serving.engine.sampling import SamplingParameters
from serving.engine.session import OrtSession
from serving.engine.solo import run_alone
from serving.engine.tree import OFF, Tree
from serving.engine.walking import Walked
from serving.testing import FakeSession
from tests.trainer.test_transformer_graph import LONGEST, sessions
from trainer.models.transformer import Transformer

# A head of 16 has a cache in place; one of 8 has what PyTorch's export makes.
EMBEDDINGS = [32, 16]


def model(embedding: int = 32) -> OrtSession:
    return sessions(Transformer, embedding=embedding, heads=2)[0]


def tree_of(session: OrtSession, budget: int = 64 << 20) -> Tree:
    return Tree(session, after_boundary(session), budget, 4, lambda: np.zeros(0, np.int64))


def row(contexts: Contexts, index: int, longest: int = LONGEST) -> Records:
    """The row of a sample that is about to begin: [1]."""
    job = Draw([], 10_000, SamplingParameters(seed=5), longest)
    entry = DrawEntry(job, 1, contexts.root, longest)
    live = table.copied(entry.ready.ahead(entry.packed, index, 1, contexts.walker, 1))
    live["place"] = contexts.fork(contexts.root, 1)
    return live


def drawn(live: Records) -> tuple[list[int], float]:
    (length,) = live["length"]
    return live["text"][0, :length].tolist(), float(live["log_prob"][0])


def plainly(session: OrtSession, indices: range) -> list[tuple[list[int], float]]:
    private = Private(session, after_boundary(session))
    found = []
    for index in indices:
        live = row(private, index)
        while not run_alone(live, private, private.walk, lambda: False):
            pass
        private.release(live["place"])
        found.append(drawn(live))
    return found


def interrupted(chance: random.Random, share: float) -> Callable[[], bool]:
    """Nobody waits when it begins, and somebody comes soon."""
    begins = iter([False])
    return lambda: next(begins, chance.random() < share)


@pytest.mark.parametrize("embedding", EMBEDDINGS)
@pytest.mark.parametrize("rare", [0.0, 1.0, math.inf])
@pytest.mark.parametrize("budget", [1, 64 << 20])
def test_an_engine_of_one_row_makes_the_strings_that_it_makes_without_a_tree(
    monkeypatch: pytest.MonkeyPatch, embedding: int, rare: float, budget: int
) -> None:
    monkeypatch.setattr("serving.engine.tree.RARE", rare)
    session, made = model(embedding), []
    for cache in (budget, 0):
        engine = Engine(session, 1, cache)
        engine.start()
        jobs = [Draw([2][:number], 150, SamplingParameters(seed=3), LONGEST) for number in (0, 1)]
        for job in jobs:
            engine.submit(job)
        outcomes: list[Outcome] = [job.result.result(60) for job in jobs]
        made.append([list(outcome.samples) for outcome in outcomes])
        engine.stop()
    assert made[0] == made[1]


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("embedding", EMBEDDINGS)
def test_a_row_that_has_left_comes_back_when_it_is_interrupted_and_draws_the_same(
    monkeypatch: pytest.MonkeyPatch, embedding: int, share: float
) -> None:
    monkeypatch.setattr("serving.engine.tree.RARE", math.inf)
    session, chance = model(embedding), random.Random(1)
    tree, indices, turns = tree_of(session), range(60), 0
    for index, wanted in zip(indices, plainly(session, indices), strict=True):
        live = row(tree, index)
        while not run_alone(live, tree, tree.walk, interrupted(chance, share)):
            assert live["place"][0] != OFF
            turns += 1
            if tree.walk(live).done:
                break
            live["place"], moved = tree.advance(live["place"], live["token"])
            assert moved.all()
            live["at"] += 1
            live["token"] = -1
        assert drawn(live) == wanted
    assert (turns > 0) == (share > 0)


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("embedding", EMBEDDINGS)
def test_a_row_without_a_tree_goes_on_the_same_wherever_it_was_interrupted(
    embedding: int, share: float
) -> None:
    session, chance, turns = model(embedding), random.Random(1), 0
    private = Private(session, after_boundary(session))
    (others,) = private.fork(private.root, 1)  # whose states are to stay as they are
    for index, wanted in zip(range(60), plainly(session, range(60)), strict=True):
        live = row(private, index)
        while not run_alone(live, private, private.walk, interrupted(chance, share)):
            turns += 1
        assert drawn(live) == wanted
        private.release(live["place"])
    assert (turns > 0) == (share > 0)
    kept = private.keep(others)
    assert all((a == b).all() for a, b in zip(kept.states, private.root.states, strict=True))


def test_one_row_makes_the_same_strings_compiled_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for _ in range(2):
        engine = Engine(FakeSession(), 1, 0)
        engine.start()
        job = Draw([2], 200, SamplingParameters(seed=3), 8)
        engine.submit(job)
        made.append(list(job.result.result(60).samples))
        engine.stop()
        monkeypatch.setattr(compiled, "library", lambda: None)
    assert made[0] == made[1]


def test_rows_that_end_at_once_let_others_have_their_turn() -> None:
    session = FakeSession(max_length=1)
    private = Private(session, after_boundary(session))
    index = next(i for i in count() if not private.walk(row(private, i, 1)).done)  # of one letter
    begun = count()

    def walk(live: Records) -> Walked:
        """As if another row took the place of one that is done."""
        walked = private.walk(live)
        if walked.done:
            assert next(begun) < 50
            live[:] = row(private, index, 1)
            private.walk(live)
        return walked._replace(done=0)

    turns = iter([False] * 5)
    assert not run_alone(row(private, index, 1), private, walk, lambda: next(turns, True))
    assert 2 <= next(begun) <= 6


def test_nothing_leaves_while_others_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.engine.tree.RARE", math.inf)
    tree = tree_of(model())
    live, steps = row(tree, 7), 0
    while not run_alone(live, tree, tree.walk, lambda: True):
        steps += 1
    assert steps > 3
    assert tree.steps == steps
    assert len(tree._nodes) == 2 + steps


def test_what_is_wanted_a_second_time_is_kept_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.engine.tree.RARE", math.inf)
    tree, steps = tree_of(model()), []
    for _ in range(2 * LONGEST + 3):
        before = tree.steps
        live = row(tree, 7)
        assert run_alone(live, tree, tree.walk, lambda: False)
        steps.append(tree.steps - before)
    length = steps[0]
    assert length > 3
    # The ways out are remembered at each visit, and what they lead to kept at the next.
    assert steps[-1] == 0
    assert steps == sorted(steps, reverse=True)
    assert len(tree._nodes) == 2 + length


def test_nothing_leaves_that_may_not_end_before_others_have_their_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("serving.engine.tree.RARE", math.inf)
    monkeypatch.setattr(solo, "MOST", 4)
    session = model()
    tree, indices, kept = tree_of(session), range(300), 0
    for index, wanted in zip(indices, plainly(session, indices), strict=True):
        live, seen = row(tree, index), 0
        while not run_alone(live, tree, tree.walk, lambda: False):
            assert live["at"][0] >= seen + 4  # no step was for nothing
            seen = int(live["at"][0])
        kept += len(wanted[0]) > 4
        assert drawn(live) == wanted
    assert kept > 50  # strings that were long enough for it to matter
    assert len(tree._nodes) > 2


def test_the_place_off_the_tree_stays_whatever_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.engine.tree.RARE", 0.0)
    session = model()
    tree = tree_of(session, 1)
    for index in range(400):
        assert run_alone(row(tree, index), tree, tree.walk, lambda: False)
    assert len(tree._nodes) <= 4 * 4 + 64  # so that nodes have gone
    assert tree._nodes["used"][OFF] == np.iinfo(np.int64).max
    assert not tree._nodes["child"][OFF].any()
    assert tree._nodes.are_taken[OFF]
