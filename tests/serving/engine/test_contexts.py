import random

import numpy as np
import pytest

from serving.engine.contexts import Private, after_boundary
from serving.engine.stepping import FEWEST, StepSession, initial_states
from serving.testing import FakeSession
from tests.trainer.test_transformer_graph import LONGEST, sessions
from trainer.models.transformer import Transformer


def plainly(session: StepSession, tokens: list[int]) -> bytes:
    states = initial_states(session.manifest.states, 2)
    for token in [0, *tokens]:
        logits, states = session.step(np.array([token, token]), states)
    found: bytes = logits[0].tobytes()
    return found


@pytest.mark.parametrize("is_in_place", [True, False])
def test_rows_that_have_their_states_for_themselves_come_and_go_and_mix_nothing_up(
    is_in_place: bool,
) -> None:
    session = sessions(Transformer, embedding=32, heads=2)[0] if is_in_place else FakeSession()
    longest = LONGEST if is_in_place else session.manifest.max_length
    private, chance = Private(session, after_boundary(session)), random.Random(3)
    texts: dict[int, list[int]] = {}
    for _ in range(300):
        if count := chance.choice((0, 0, 0, 1, 1, 2, 9)):
            for place in private.fork(private.root, count).tolist():
                assert place not in texts
                texts[place] = []
        leaving = [p for p, t in texts.items() if len(t) == longest or chance.random() < 0.3]
        if leaving:
            private.release(np.array(leaving))
            texts = {place: text for place, text in texts.items() if place not in leaving}
        if not texts:
            continue
        seen = {place: chance.randint(1, 3) for place in texts}
        after, moved = private.advance(np.array(list(seen)), np.array(list(seen.values())))
        assert moved.all()
        texts = {
            new: [*texts[old], seen[old]] for new, old in zip(after.tolist(), seen, strict=True)
        }
        for place, text in texts.items():
            assert private.logits(np.array([place])).tobytes() == plainly(session, text)


def test_what_an_idle_row_has_seen_is_never_longer_than_a_string() -> None:
    session = sessions(Transformer, embedding=32, heads=2)[0]
    private = Private(session, after_boundary(session))
    others = private.fork(private.root, 20)
    for _ in range(LONGEST):
        others, _ = private.advance(others, np.full(20, 1))
    place = private.fork(private.root, 1)
    private.release(others)
    for number in range(LONGEST):
        place, _ = private.advance(place, np.array([2]))
        counts = [int(state.max()) for state in private._states if state.dtype == np.int64]
        assert max(counts) <= LONGEST + 1
        assert private.logits(place).tobytes() == plainly(session, [2] * (number + 1))
    assert len(private._known.logits) == FEWEST


def test_a_first_row_is_stepped_beside_an_idle_one() -> None:
    session = FakeSession()
    private = Private(session, after_boundary(session))
    session.rows.clear()
    private.advance(private.fork(private.root, 1), np.array([1]))
    assert session.rows == [FEWEST]


def test_a_row_that_is_alone_is_stepped_beside_an_idle_one_as_soon_as_the_others_are_gone() -> None:
    session = FakeSession()
    private = Private(session, after_boundary(session))
    places = private.fork(private.root, 20)
    places, _ = private.advance(places, np.full(20, 1))
    private.release(places[1:])
    session.rows.clear()
    place = places[:1]
    for _ in range(3 * session.manifest.max_length):  # the idle one begins anew now and then
        place, _ = private.advance(place, np.array([2]))
    assert set(session.rows) == {FEWEST}
    (idle,) = private._free
    assert private.fork(private.root, 1).tolist() == [idle]
    place, _ = private.advance(np.array([idle]), np.array([3]))
    assert private.logits(place).tobytes() == plainly(session, [3])
