import random

import numpy as np
import pytest

from serving.engine.pool import Pool


def pool(most: int) -> Pool:
    return Pool({"value": (np.int64, (2,))}, {"flag": (np.int32, ())}, most)


@pytest.mark.parametrize("most", [3, 1000])
def test_places_keep_what_they_were_given_until_they_are_given_back(most: int) -> None:
    """With few places, it grows past what it was meant to have."""
    it, kept, chance = pool(most), dict[int, int](), random.Random(1)
    for number in range(2000):
        if kept and chance.random() < 0.48:
            place = chance.choice(list(kept))
            del kept[place]
            it.give(np.array([place]))
            continue
        count = chance.randint(1, 4)
        places = it.take(count)
        assert not kept.keys() & set(places.tolist())
        assert not it["flag"][places].any()
        it["flag"][places] = 1
        it["value"][places] = number
        kept |= dict.fromkeys(places.tolist(), number)
        assert all(it["value"][p].tolist() == [n, n] for p, n in kept.items())
        assert it.taken.tolist() == sorted(kept)
        assert len(it) == len(kept)
        assert it.room == max(most - len(kept), 0)


def test_a_place_that_was_given_back_is_taken_before_a_new_one() -> None:
    it = pool(8)
    it.give(it.take(3))
    assert sorted([*it.take(2), *it.take(1)]) == [0, 1, 2]
    assert it.take(2).tolist() == [3, 4]
