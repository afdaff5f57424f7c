from hypothesis import given
from hypothesis import strategies as st

from serving.engine.scheduler import LEAD, Turns, shares

few = st.integers(0, 30)


def test_free_rows_are_shared_evenly() -> None:
    assert shares([100, 100, 100], [0, 0, 0], 9) == [3, 3, 3]


def test_who_holds_less_comes_first() -> None:
    assert shares([100, 100], [10, 2], 4) == [0, 4]
    assert shares([100, 100], [10, 2], 12) == [2, 10]


def test_what_one_does_not_want_goes_to_the_others() -> None:
    assert shares([1, 100], [0, 0], 10) == [1, 9]


@given(st.lists(st.tuples(few, few), max_size=8), few)
def test_shares_are_as_even_as_they_can_be(jobs: list[tuple[int, int]], free: int) -> None:
    wanted, held = [job[0] for job in jobs], [job[1] for job in jobs]
    given_ = shares(wanted, held, free)
    assert sum(given_) == min(free, sum(wanted))
    assert all(0 <= got <= want for got, want in zip(given_, wanted, strict=True))
    for want, has, got in zip(wanted, held, given_, strict=True):
        if got < want:  # then nobody else got a row that this one was more in need of
            others = [h + g for h, g in zip(held, given_, strict=True) if g > 0]
            assert all(level <= has + got + 1 for level in others)


def test_light_work_goes_first_but_not_more_than_half_of_the_time() -> None:
    turns, spent = Turns(), {True: 0.0, False: 0.0}
    assert turns.is_light_next(light=True, heavy=True)
    for _ in range(1000):
        is_light = turns.is_light_next(light=True, heavy=True)
        turns.spent(0.001, is_light)
        spent[is_light] += 0.001
    assert abs(spent[True] - spent[False]) <= 2 * LEAD


def test_a_lane_without_work_has_no_turn() -> None:
    assert not Turns().is_light_next(light=False, heavy=True)
    assert Turns().is_light_next(light=True, heavy=False)
