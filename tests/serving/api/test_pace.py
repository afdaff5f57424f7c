import pytest

from serving.api.pace import PART, Pace
from serving.engine.admission import LONGEST, SHORTEST


def test_the_first_time_counts_whole_and_each_later_one_in_part() -> None:
    pace = Pace()
    assert pace.pause() == SHORTEST
    pace.add(2.0)
    assert pace.pause() == 2.0
    pace.add(4.0)
    assert pace.pause() == pytest.approx(2.0 + PART * 2.0)
    assert pace.pause(3) == pytest.approx(3 * pace.seconds)
    assert pace.pause(10_000) == LONGEST
