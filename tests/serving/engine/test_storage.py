import random

import numpy as np
import pytest

from serving.engine import compiled
from serving.engine.contexts import Private, after_boundary
from serving.engine.sampling import Int64
from serving.engine.session import OrtSession
from serving.engine.stepping import initial_states
from serving.engine.storage import Packed, Whole, storage_of
from serving.engine.tree import Tree
from serving.errors import ServingError
from serving.testing import FakeSession
from tests.trainer.test_transformer_graph import KINDS, LONGEST, sessions
from trainer.models.transformer import Transformer

# A head of 16 has a graph made by hand, with a cache in place; one of 8 has what PyTorch's export makes.
EMBEDDINGS = [32, 16]


def model(kind: type[Transformer], embedding: int) -> OrtSession:
    return sessions(kind, embedding=embedding, heads=2)[0]


def plainly(session: OrtSession, tokens: list[int]) -> bytes:
    private = Private(session, after_boundary(session))
    places = private.fork(private.root, 2)
    for token in tokens:
        places, _ = private.advance(places, np.array([token, token]))
    return private.logits(places[:1]).tobytes()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("embedding", EMBEDDINGS)
def test_only_what_a_step_adds_is_kept_where_states_grow(
    kind: type[Transformer], embedding: int
) -> None:
    session = model(kind, embedding)
    storage = storage_of(session.manifest)
    assert isinstance(storage, Packed)
    assert storage.is_chained
    whole = Whole(session.manifest.states)
    assert storage.slot_bytes == 8 + (whole.slot_bytes - 8) // (LONGEST + 1)


def test_states_are_whole_where_they_do_not_grow_or_nothing_is_compiled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not storage_of(FakeSession().manifest).is_chained
    monkeypatch.setattr(compiled, "library", lambda: None)
    assert isinstance(storage_of(model(Transformer, 32).manifest), Whole)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("embedding", EMBEDDINGS)
@pytest.mark.parametrize("budget", [1, 64 << 20])
def test_logits_are_those_without_a_tree_to_the_last_bit(
    kind: type[Transformer], embedding: int, budget: int
) -> None:
    session, held = model(kind, embedding), [0]
    tree = Tree(session, after_boundary(session), budget, 4, lambda: np.array(held, np.int64))
    chance = random.Random(1)
    for _ in range(40):
        texts = np.array([[chance.randint(1, 4) for _ in range(LONGEST)] for _ in range(3)])
        places: Int64 = tree.fork(tree.root, 3)
        for number in range(chance.randint(1, LONGEST)):
            waits = np.ones(3, np.bool_)
            while waits.any():
                held[:] = places.tolist()
                after, moved = tree.advance(places[waits], texts[waits, number])
                places[waits], waits[waits] = after, ~moved
        for place, text in zip(places.tolist(), texts.tolist(), strict=True):
            assert tree.logits(np.array([place])).tobytes() == plainly(session, text[: number + 1])
    assert budget > 1 or len(tree._nodes) <= 4 * 4 + 64


def test_the_way_to_every_row_stays_where_the_ways_need_more_nodes_than_there_may_be() -> None:
    session, held = model(Transformer, 32), [0]
    tree = Tree(session, after_boundary(session), 1, 0, lambda: np.array(held, np.int64))
    chance = np.random.default_rng(5)
    texts = chance.integers(1, 5, (40, LONGEST))
    places: Int64 = tree.fork(tree.root, len(texts))
    for number in range(LONGEST):
        held[:] = places.tolist()
        places, moved = tree.advance(places, texts[:, number])
        assert moved.all()
        for place, text in zip(places.tolist()[:7], texts.tolist(), strict=False):
            assert tree.logits(np.array([place])).tobytes() == plainly(session, text[: number + 1])
    assert len(tree._nodes) > 2 * 64  # of which there may be 64


def test_states_of_another_shape_than_was_said_are_refused() -> None:
    session = model(Transformer, 32)
    tree = Tree(session, after_boundary(session), 1 << 20, 4, lambda: np.zeros(0, np.int64))
    states = initial_states(session.manifest.states, 3)
    with pytest.raises(ServingError, match="shape"):
        tree._storage.put(tree._nodes, tree._slots, np.zeros(2, np.int64), states)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("embedding", EMBEDDINGS)
def test_a_step_sets_the_entry_of_its_number_and_no_later_one_matters(
    kind: type[Transformer], embedding: int
) -> None:
    session = model(kind, embedding)
    specs = session.manifest.states
    assert all(spec.grows == 1 for spec in specs[1:])
    chance = np.random.default_rng(3)
    states = initial_states(specs, 2)
    for number in range(LONGEST + 1):
        token = chance.integers(0, 5, 2)
        spoilt = tuple(state.copy() for state in states)
        for spec, state in zip(specs, spoilt, strict=True):
            if spec.grows is not None:
                state[:, :, number:] = chance.normal(size=state[:, :, number:].shape)
        logits, after = session.step(token, states)
        others, after_spoilt = session.step(token, spoilt)
        assert others.tobytes() == logits.tobytes()
        for spec, before, here, there in zip(specs, states, after, after_spoilt, strict=True):
            if spec.grows is not None:
                assert (here[:, :, :number] == before[:, :, :number]).all()
                assert (here[:, :, : number + 1] == there[:, :, : number + 1]).all()
        states = after
