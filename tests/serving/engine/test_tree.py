import random

import numpy as np
import pytest

from serving.engine.contexts import NOWHERE, Private, after_boundary
from serving.engine.sampling import Int64, Table
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
        expected = Table.of(tree.logits(np.array([place]))[0]).draw(0.4)
        assert tree.draw(place, 0.4) == expected
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


def test_only_what_was_computed_is_followed_and_only_if_it_is_not_for_few() -> None:
    tree, session, held = grown(64 << 20)
    place = walk(tree, [1, 2], held)
    session.rows.clear()
    hits = tree.hits
    places = tree.fork(tree.root, 3)
    after, moved = tree.follow(places, np.array([1, 2, 1]))
    assert moved.tolist() == [True, False, True]
    assert tree.follow(after[:1], np.array([2]))[0] == place
    assert after[1] == places[1]
    few = tree.fork(tree.root, 8)
    after, moved = tree.follow(few, np.array([1, 1, 2, 2, 2, 2, 2, 2]))
    assert not moved.any()
    assert (after == few).all()
    assert tree.hits == hits + 3
    assert not session.rows


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
