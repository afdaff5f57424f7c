import pytest

from serving.api.searching import Searches
from serving.engine.admission import LONGEST, SHORTEST
from serving.errors import Exhausted


def test_one_caller_has_no_more_than_half() -> None:
    searches = Searches(100)
    with searches.place("a", 25), searches.place("a", 25):
        with pytest.raises(Exhausted, match="fewer max_expansions"), searches.place("a", 1):
            pass
        with searches.place("b", 50):
            pass


def test_nobody_has_more_than_there_is() -> None:
    searches = Searches(100)
    with searches.place("a", 50), searches.place("b", 40):
        with pytest.raises(Exhausted) as refused, searches.place("c", 11):
            pass
        assert SHORTEST <= refused.value.retry_after <= LONGEST
        with searches.place("c", 10):
            pass


def test_a_search_that_alone_is_too_large_runs_alone() -> None:
    searches = Searches(100)
    with searches.place("a", 1000):
        for caller in ("a", "b"):
            with pytest.raises(Exhausted), searches.place(caller, 1):
                pass


def test_what_is_over_however_it_ended_takes_no_place() -> None:
    searches = Searches(100)
    for _ in range(9):
        with pytest.raises(ValueError, match="broken"), searches.place("a", 50):
            raise ValueError("broken")
    assert not searches.by_caller
