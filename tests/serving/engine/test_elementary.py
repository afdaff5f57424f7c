"""exp and log, beside those of the C library, and with loops in C and without."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.engine import compiled, elementary
from serving.engine.elementary import LEAST, Float64

Function = Callable[[Float64], Float64]


def both(function: Function, x: Float64) -> Float64:
    """What comes of it, which is the same bits with loops in C and without."""
    found = function(x)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "library", lambda: None)
        plain = function(x)
    assert found.tobytes() == plain.tobytes()
    return found


@given(st.lists(st.floats(LEAST, 700), min_size=1, max_size=40))
def test_exp_is_right_to_two_units_in_the_last_place(values: list[float]) -> None:
    for x, found in zip(values, both(elementary.exp, np.array(values)), strict=True):
        assert abs(found - math.exp(x)) <= 2 * math.ulp(math.exp(x))


@given(st.lists(st.floats(1, 1e300), min_size=1, max_size=40))
def test_log_is_right_to_three_units_in_the_last_place(values: list[float]) -> None:
    for x, found in zip(values, both(elementary.log, np.array(values)), strict=True):
        assert abs(found - math.log(x)) <= 3 * math.ulp(math.log(x))


def test_what_is_exact_is_so() -> None:
    assert both(elementary.exp, np.array([0.0, -0.0])).tolist() == [1, 1]
    assert both(elementary.log, np.array([1.0])).tolist() == [0]
    assert both(elementary.log, np.array([2.0, 256.0])).tolist() == [math.log(2), math.log(256)]


def test_what_is_far_below_is_0() -> None:
    x = np.array([-math.inf, -1e300, np.nextafter(LEAST, -math.inf), LEAST])
    assert both(elementary.exp, x).tolist()[:3] == [0, 0, 0]
    assert both(elementary.exp, x)[3] > 0


@pytest.mark.parametrize("function", [elementary.exp, elementary.log])
def test_what_is_no_number_stays_so_and_changes_no_other(function: Function) -> None:
    x = np.array([[1.0, math.nan], [2.0, 3.0]])
    found = function(x)
    assert np.isnan(found).tolist() == [[False, True], [False, False]]
    assert found[1].tobytes() == function(x[1]).tobytes()


@pytest.mark.parametrize("function", [elementary.exp, elementary.log])
def test_what_it_is_given_stays_and_may_lie_in_pieces(function: Function) -> None:
    x = np.linspace(1, 5, 24).reshape(4, 6)
    before = x.copy()
    assert both(function, x[:, ::2]).tolist() == both(function, x)[:, ::2].tolist()
    assert (x == before).all()
