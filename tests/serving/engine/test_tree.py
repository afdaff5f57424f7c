import random

import numpy as np
import pytest

from serving.engine.contexts import NOWHERE, Private, after_boundary
from serving.engine.sampling import Int64
from serving.engine.tree import Tree
from serving.testing import FakeSession


def grown(budget: int, most: int = 4) -> tuple[Tree, FakeSession, list[int]]:
    session, held = FakeSession(max_length=30), [0]
    root = after_boundary(session)
    tree = Tree(session, root, budget, most, lambda: np.array(held, np.int64))
    return tree, session, held


def walk(tree: Tree, tokens: list[int], held: list[int]) -> Int64:
    """Where a row is after these tokens."""
    place = tree.fork(tree.root, 1)
    for token in tokens:
        held[:] = place.tolist()
        moved = np.array([False])
        for _ in range(40):
            place, moved = tree.advance(place, np.array([token]))
            if moved[0]:
                break
        assert moved[0]
    return place


def walk_alone(tree: Tree, tokens: list[int], held: list[int]) -> int:
    """The same for a row that is alone."""
    place = int(tree.fork(tree.root, 1)[0])
    for token in tokens:
        held[:] = [place]
        after = NOWHERE
        for _ in range(40):
            after = tree.step(place, token)
            if after != NOWHERE:
                break
        assert after != NOWHERE
        place = after
    return place


def plainly(tokens: list[int]) -> bytes:
    private = Private(FakeSession(max_length=30), after_boundary(FakeSession(max_length=30)))
    place = private.fork(private.root, 1)
    for token in tokens:
        place, _ = private.advance(place, np.array([token]))
    return private.logits(place).tobytes()


@pytest.mark.parametrize("budget", [1, 64 << 20])
def test_logits_are_those_without_the_tree_however_small_it_is(budget: int) -> None:
    tree, _, held = grown(budget)
    chance = random.Random(1)
    for _ in range(150):
        tokens = [chance.randint(1, 3) for _ in range(chance.randint(0, 25))]
        alone = chance.random() < 0.5
        place = np.array([walk_alone(tree, tokens, held)]) if alone else walk(tree, tokens, held)
        assert tree.logits(place).tobytes() == plainly(tokens)


def test_a_prefix_is_computed_once_for_all_rows_and_once_for_all_time() -> None:
    tree, session, held = grown(64 << 20)
    session.rows.clear()
    places = tree.fork(tree.root, 3)
    places, moved = tree.advance(places, np.array([1, 2, 1]))
    assert moved.all()
    assert places[0] == places[2] != places[1]
    assert session.rows == [2]
    walk(tree, [1], held)
    assert session.rows == [2]
    assert (tree.steps, tree.hits) == (2, 1)


def test_the_tree_keeps_to_its_budget_or_to_what_the_rows_need() -> None:
    for budget in (1, 200_000):
        tree, _, held = grown(budget)
        chance = random.Random(2)
        for number in range(300):
            tokens = [chance.randint(1, 3) for _ in range(25)]
            (walk_alone if number % 2 else walk)(tree, tokens, held)
        assert tree.bytes_used <= max(budget, (4 * 4 + 64) * 2 * (8 * 4 + 28 + 12))


def test_a_row_in_the_middle_of_things_keeps_its_node() -> None:
    tree, _, held = grown(1)
    place = walk(tree, [1, 2, 3, 1], held)
    wanted = tree.logits(place).tobytes()
    chance = random.Random(3)
    for _ in range(100):
        other = tree.fork(tree.root, 1)
        for token in [chance.randint(1, 3) for _ in range(20)]:
            held[:] = [int(place[0]), int(other[0])]
            moved = np.array([False])
            while not moved[0]:
                other, moved = tree.advance(other, np.array([token]))
    assert tree.logits(place).tobytes() == wanted


def test_a_step_has_so_many_rows_at_most_and_no_row_waits_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("serving.engine.tree.WIDE", 2)
    tree, session, held = grown(64 << 20, most=9)
    paths = np.array([[a, b] for a in (1, 2, 3) for b in (1, 2, 3)])
    session.rows.clear()
    places = tree.fork(tree.root, len(paths))
    for tokens in paths.T:
        waits = np.ones(len(paths), np.bool_)
        for _ in range(9):
            held[:] = places.tolist()
            after, moved = tree.advance(places[waits], tokens[waits])
            places[waits], waits[waits] = after, ~moved
        assert not waits.any()
    assert tree.steps == 3 + 9
    assert max(session.rows) == 2
    for place, path in zip(places, paths.tolist(), strict=True):
        assert tree.logits(np.array([place])).tobytes() == plainly(path)


def test_the_state_that_a_waiting_row_goes_on_from_is_the_last_to_go() -> None:
    tree, _, held = grown(64 << 20)
    waiting = walk(tree, [1, 2, 3, 1, 2], held)
    for tokens in ([2, 1, 1], [3, 3, 3], [1, 2, 3, 1, 3]):  # states used later, and with children
        walk(tree, tokens, held)
    held[:] = waiting.tolist()
    others = 13 - 1  # nodes beside the root
    tree._drop_states(others - 1)
    before = tree.steps
    _, moved = tree.advance(waiting, np.array([3]))
    assert moved.all()
    assert tree.steps - before == 1


def test_children_are_counted_after_nodes_have_gone() -> None:
    tree, _, held = grown(1)
    chance = random.Random(3)
    for _ in range(300):
        walk(tree, [chance.randint(1, 3) for _ in range(chance.randint(1, 9))], held)
    taken, counted = tree._nodes.taken, tree._children()
    there = (tree._nodes["child"][taken] != 0).sum(axis=1)
    assert len(taken) < 200  # so that nodes have gone
    assert there[1:].max() == 3
    assert np.array_equal(counted[taken][1:], there[1:])
