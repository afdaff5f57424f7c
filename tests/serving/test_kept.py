from random import Random

import pytest

from serving.kept import SHARE, Kept


def test_what_was_not_used_for_longest_goes_first() -> None:
    kept = Kept(40)
    for key in "abcd":
        kept.keep(key, key.upper(), 10)
    assert kept.get("a") == "A"
    kept.keep("e", "E", 10)
    assert [kept.get(key) for key in "abcde"] == ["A", None, "C", "D", "E"]
    assert kept.weight == 40


def test_what_is_larger_than_its_share_is_used_and_not_kept() -> None:
    kept = Kept(40)
    assert kept.keep("small", 1, 40 // SHARE) == 1
    assert kept.keep("large", 2, 40 // SHARE + 1) == 2
    assert (kept.get("small"), kept.get("large")) == (1, None)


def test_what_was_there_before_stays_and_counts_once() -> None:
    kept = Kept(40)
    first, second = [1], [1]
    assert kept.keep("a", first, 10) is first
    assert kept.keep("a", second, 10) is first
    assert kept.weight == 10


def test_nothing_is_kept_of_what_is_not() -> None:
    kept = Kept(40)
    kept.keep("whole", 1, 11)
    kept.keep("part", 2, 1, source="whole")
    assert kept.get("part") is None
    assert (kept.weight, len(kept)) == (0, 0)


@pytest.mark.parametrize("seed", range(20))
def test_nothing_goes_before_what_is_made_from_it_and_the_bytes_are_never_more(seed: int) -> None:
    chance, kept, weights = Random(seed), Kept(100), dict[object, int]()
    for _ in range(500):
        key: tuple[int, ...] = tuple(chance.choices(range(4), k=chance.randint(1, 3)))
        if chance.random() < 0.6:
            weight = weights.setdefault(key, chance.randint(1, 25))
            kept.keep(key, key, weight, key[:-1] or None)
        else:
            kept.get(key)
        there = set(kept._entries)
        assert all(len(key) == 1 or key[:-1] in there for key in there if isinstance(key, tuple))
        assert kept.weight == sum(weights[key] for key in there) <= 100
