import math
import random

import numpy as np
import pytest

from serving.engine import compiled
from serving.engine.branching import NONE, Plain
from serving.engine.compiled_branching import Compiled, branching_of
from serving.engine.contexts import after_boundary
from serving.engine.pool import Pool
from serving.engine.sampling import Int64
from serving.engine.tree import ROOT, SOON, Tree
from serving.testing import FakeSession

TOKENS = 4


def tree_of(budget: int, held: list[int]) -> Tree:
    session = FakeSession(max_length=30)
    return Tree(session, after_boundary(session), budget, 4, lambda: np.array(held, np.int64))


def grow(tree: Tree, held: list[int], walks: int, seed: int) -> None:
    """Let two rows or more walk at a time, some of them after the same text."""
    chance = random.Random(seed)
    for _ in range(walks):
        rows = chance.randint(1, 4)
        places = tree.fork(tree.root, rows)
        for _ in range(chance.randint(1, 12)):
            tokens = np.array([chance.randrange(1, TOKENS) for _ in range(rows)])
            waits = np.ones(rows, np.bool_)
            while waits.any():
                held[:] = places.tolist()
                after, moved = tree.advance(places[waits], tokens[waits])
                places[waits], waits[waits] = after, ~moved


@pytest.fixture(params=["compiled", "plain"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trees grow by the loops in C, and by numpy."""
    if request.param == "plain":
        monkeypatch.setattr(compiled, "library", lambda: None)


@pytest.mark.parametrize("budget", [1, 20_000, 64 << 20])
def test_the_loops_in_c_grow_the_tree_that_numpy_grows(
    monkeypatch: pytest.MonkeyPatch, budget: int
) -> None:
    held = [ROOT]
    in_c = tree_of(budget, held)
    monkeypatch.setattr(compiled, "library", lambda: None)
    plain = tree_of(budget, held)
    assert isinstance(in_c._branching, Compiled)
    assert isinstance(plain._branching, Plain)
    for tree in (in_c, plain):
        grow(tree, held, 150, seed=1)
    assert (in_c.steps, in_c.hits) == (plain.steps, plain.hits)
    assert np.array_equal(in_c._nodes.taken, plain._nodes.taken)
    taken = plain._nodes.taken
    for name in ("logits", "cumulative", "log_partition", "parent", "token", "used", "chance"):
        wanted, found = (tree._nodes[name][taken] for tree in (plain, in_c))
        assert found.tobytes() == wanted.tobytes(), name
    for name in ("child", "slot"):
        assert np.array_equal(in_c._nodes[name][taken], plain._nodes[name][taken])
    assert np.array_equal(in_c._slots.taken, plain._slots.taken)
    assert np.array_equal(in_c._branching.rare, plain._branching.rare)


@pytest.mark.usefixtures("either_way")
def test_a_node_has_the_chance_that_a_string_comes_by() -> None:
    held = [ROOT]
    tree = tree_of(64 << 20, held)
    place, wanted = tree.fork(tree.root, 1), 1.0
    for token in (2, 1, 3):
        logits = tree.logits(place)[0].astype(np.float64)
        wanted *= math.exp(logits[token]) / np.exp(logits).sum()
        place, _ = tree.advance(place, np.array([token]))
        assert tree._nodes["chance"][place[0]] == pytest.approx(wanted, rel=1e-12)


@pytest.mark.usefixtures("either_way")
def test_a_rare_state_stays_for_as_long_as_a_row_may_need_it_and_comes_back_to_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("serving.engine.tree.RARE", math.inf)
    held = [ROOT]
    tree = tree_of(64 << 20, held)
    text = [1, 2, 3, 1, 2, 3]
    slot, places = tree._nodes["slot"], [ROOT]
    for number, token in enumerate(text):
        after, _ = tree.advance(np.array(places[-1:]), np.array([token]))
        assert slot[after[0]] != NONE
        places.extend(after.tolist())
        assert tree.steps == number + 1  # none was computed twice
    for _ in range(SOON + 1):  # others are about
        tree.advance(np.array([ROOT]), np.array([1]))
    assert not slot[places[1:]].any()
    assert slot[ROOT] != NONE
    assert len(tree._slots) == 2  # the one that is set aside, and the root's
    tree.advance(np.array(places[2:3]), np.array([2]))  # which needs what is gone
    assert tree.steps == len(text) + 1
    tree.advance(np.array(places[2:3]), np.array([2]))
    assert tree.steps == len(text) + 2
    for _ in range(SOON + 1):
        tree.advance(np.array([ROOT]), np.array([1]))
    assert slot[places[2]] != NONE


def test_a_waiting_row_keeps_its_state_though_it_is_rare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.engine.tree.RARE", math.inf)
    monkeypatch.setattr("serving.engine.tree.WIDE", 1)
    held = [ROOT]
    tree = tree_of(64 << 20, held)
    places, waits = tree.fork(tree.root, 9), np.ones(9, np.bool_)
    for tokens in np.array([[a, b] for a in (1, 2, 3) for b in (1, 2, 3)]).T:
        waits[:] = True
        while waits.any():
            after, moved = tree.advance(places[waits], tokens[waits])
            places[waits], waits[waits] = after, ~moved
    assert tree.steps == 3 + 9


@pytest.mark.usefixtures("either_way")
def test_no_slot_is_given_back_twice_where_rare_nodes_go_and_come_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("serving.engine.tree.RARE", math.inf)
    monkeypatch.setattr("serving.engine.tree.SOON", 50)
    held = [ROOT]
    tree, has_twice = tree_of(1, held), False
    give = tree._slots.give

    def checked(places: Int64) -> None:
        assert len(np.unique(places)) == len(places)
        assert tree._slots.are_taken[places].all()
        give(places)

    monkeypatch.setattr(tree._slots, "give", checked)
    for seed in range(80):
        grow(tree, held, 4, seed)
        rare = tree._branching.rare
        has_twice = has_twice or len(np.unique(rare)) < len(rare)
    assert has_twice


def test_no_more_pairs_are_planned_than_there_are_buckets_for() -> None:
    with pytest.raises(AssertionError):
        Compiled(compiled.library(), *_pools(), wide=10_000, chance=0.0)
    assert isinstance(branching_of(*_pools(), wide=256, chance=0.0), Compiled)


def _pools() -> tuple[Pool, Pool]:
    tree = tree_of(1, [ROOT])
    return tree._nodes, tree._slots
