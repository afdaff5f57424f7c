from typing import Any

import pytest

from serving.errors import BadModel
from serving.percentiles import HeldOut

ROW = [float(x) for x in range(-100, 1)]
TABLE = HeldOut([3, 5, 9], [[x - 10 for x in ROW], ROW, [2 * x for x in ROW]])


@pytest.mark.parametrize(
    ("length", "log_prob", "percentile"),
    [(5, -50, 50), (5, -50.5, 49.5), (5, -1000, 0), (5, 0, 100), (3, -60, 50), (1, -60, 50),
     (4, -60, 40), (6, -50, 50), (8, -50, 75), (100, -50, 75)],
)  # fmt: skip
def test_a_percentile_is_read_between_the_quantiles_of_the_nearest_length(
    length: int, log_prob: float, percentile: float
) -> None:
    assert TABLE.percentile(length, log_prob) == pytest.approx(percentile)


def test_equal_quantiles_are_no_division_by_nothing() -> None:
    flat = HeldOut([1], [[-2.0] * 101])
    assert flat.percentile(1, -2.0) == 100
    assert flat.percentile(1, -2.1) == 0


def test_a_table_is_read_as_it_was_written() -> None:
    assert HeldOut.parse(dict(TABLE.to_dict())) == TABLE


@pytest.mark.parametrize(
    "value",
    [None, {}, {"lengths": [], "quantiles": []}, {"lengths": [1], "quantiles": [[0.0]]},
     {"lengths": [2, 1], "quantiles": [ROW, ROW]}, {"lengths": [1], "quantiles": [ROW[::-1]]},
     {"lengths": [1], "quantiles": [[float("nan")] * 101]}, {"lengths": [True], "quantiles": [ROW]},
     {"lengths": [1.5], "quantiles": [ROW]}, {"lengths": [1], "quantiles": ["x" * 101]}],
)  # fmt: skip
def test_what_is_no_table_is_refused(value: Any) -> None:
    with pytest.raises(BadModel, match="held_out"):
        HeldOut.parse(value)
