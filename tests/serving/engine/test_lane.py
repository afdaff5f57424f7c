import pytest

from serving.engine import lane
from serving.engine.engine import Engine
from serving.testing import FakeSession
from tests.serving.engine.test_engine import expected, job


@pytest.mark.parametrize("rows", [1, 4])
def test_what_was_drawn_once_takes_no_step_when_it_is_drawn_again(rows: int) -> None:
    session = FakeSession()
    engine = Engine(session, max_rows=rows)
    engine.start()
    first, again = job(6, seed=3), job(6, seed=3)
    engine.submit(first)
    samples = first.result.result(timeout=30).samples
    session.rows.clear()
    engine.submit(again)
    assert again.result.result(timeout=30).samples == samples
    assert not session.rows
    engine.stop()


def test_rows_go_on_within_a_turn_as_long_as_most_need_no_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def turns() -> int:
        engine = Engine(FakeSession(), max_rows=8)
        engine.start()
        for _ in range(2):  # the second time, all of it is known
            before = engine.beats
            engine.submit(asked := job(40, seed=1, temperature=0.9))
            assert asked.result.result(timeout=30).samples == expected(asked)
        engine.stop()
        return engine.beats - before

    ahead = turns()
    monkeypatch.setattr(lane, "ROUNDS", 0)
    assert ahead < 0.5 * turns()
