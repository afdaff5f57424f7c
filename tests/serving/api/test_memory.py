import pytest

from serving.api.memory import MemoryBudget
from serving.engine.admission import LONGEST, SHORTEST
from serving.errors import Exhausted


@pytest.fixture
def budget() -> MemoryBudget:
    return MemoryBudget(100, "the searches", "with fewer max_expansions")


def test_one_caller_has_no_more_than_half(budget: MemoryBudget) -> None:
    with budget.reserve("a", 25), budget.reserve("a", 25):
        with pytest.raises(Exhausted, match="fewer max_expansions"), budget.reserve("a", 1):
            pass
        with budget.reserve("b", 50):
            pass


def test_nobody_has_more_than_there_is(budget: MemoryBudget) -> None:
    with budget.reserve("a", 50), budget.reserve("b", 40):
        with pytest.raises(Exhausted) as refused, budget.reserve("c", 11):
            pass
        assert SHORTEST <= refused.value.retry_after <= LONGEST
        with budget.reserve("c", 10):
            pass


def test_a_call_that_alone_is_too_large_runs_alone(budget: MemoryBudget) -> None:
    with budget.reserve("a", 1000):
        for caller in ("a", "b"):
            with pytest.raises(Exhausted), budget.reserve(caller, 1):
                pass


def test_only_a_callers_first_call_may_exceed_its_half(budget: MemoryBudget) -> None:
    with budget.reserve("b", 10):
        with budget.reserve("a", 60), pytest.raises(Exhausted), budget.reserve("a", 1):
            pass
        with pytest.raises(Exhausted), budget.reserve("a", 91):
            pass


def test_what_is_over_however_it_ended_takes_no_memory(budget: MemoryBudget) -> None:
    for _ in range(9):
        with pytest.raises(ValueError, match="broken"), budget.reserve("a", 50):
            raise ValueError("broken")
    assert not budget._quota.held
    assert not budget._quota._by_client
