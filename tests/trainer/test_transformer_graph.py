"""The Transformer's step as a graph made by hand, beside its step in PyTorch."""

from typing import Any

import numpy as np
import pytest
import torch

from serving.engine.session import OrtSession
from serving.engine.stepping import States, initial_states
from serving.manifest import Manifest
from trainer.export import graph
from trainer.models.transformer import Transformer, TransformerConfig
from trainer.models.transformer_modern import TransformerModern
from trainer.torch_session import TorchSession

LONGEST = 9
KINDS = (Transformer, TransformerModern)


def sessions(kind: type[Transformer], **knobs: Any) -> tuple[OrtSession, TorchSession]:
    torch.manual_seed(3)
    model = kind(TransformerConfig(layers=2, **knobs), 5, LONGEST).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    manifest = Manifest("m", "a", tuple("abcd"), LONGEST, model.state_specs())
    return OrtSession(graph.with_manifest(graph.trace(model), manifest)), TorchSession(
        model, manifest
    )


def restarted(states: States, rows: list[int]) -> States:
    """The states with some rows at the start of a string again."""
    after = tuple(state.copy() for state in states)
    for state in after:
        state[rows] = 0
    return after


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("embedding", "heads"), [(32, 2), (64, 2), (20, 2), (16, 4)])
def test_both_ways_give_the_models_logits(
    kind: type[Transformer], embedding: int, heads: int
) -> None:
    onnx, plain = sessions(kind, embedding=embedding, heads=heads)
    assert onnx.manifest.states[1].in_place == (embedding // heads % 16 == 0)
    chance = np.random.default_rng(1)
    states = initial_states(onnx.manifest.states, 6)
    plain_states = initial_states(onnx.manifest.states, 6)
    for step in range(LONGEST + 1):
        if step in (3, 5):  # rows come to be at different positions
            states, plain_states = (
                restarted(states, [step - 2]),
                restarted(plain_states, [step - 2]),
            )
        token = chance.integers(0, 5, 6)
        logits, states = onnx.step(token, states)
        wanted, plain_states = plain.step(token, plain_states)
        assert np.abs(logits - wanted).max() < 2e-5


@pytest.mark.parametrize("kind", KINDS)
def test_in_place_is_to_the_last_bit_what_copying_is(kind: type[Transformer]) -> None:
    onnx, _ = sessions(kind, embedding=32, heads=2)
    chance = np.random.default_rng(2)
    for rows in (2, 3, 2, 7):
        kept = initial_states(onnx.manifest.states, rows)
        used = initial_states(onnx.manifest.states, rows)
        for _ in range(LONGEST + 1):
            token = chance.integers(0, 5, rows)
            wanted, kept = onnx.step(token, kept)
            logits, used = onnx.advance(token, used)
            assert logits.tobytes() == wanted.tobytes()
            assert used[0].tobytes() == kept[0].tobytes()


def test_what_a_step_was_given_stays_as_it_was() -> None:
    onnx, _ = sessions(Transformer, embedding=32, heads=2)
    states = initial_states(onnx.manifest.states, 3)
    onnx.step(np.array([1, 2, 3]), states)
    assert not any(state.any() for state in states)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_is_the_same_bits_however_many_others_there_are(kind: type[Transformer]) -> None:
    onnx, _ = sessions(kind, embedding=64, heads=4)
    tokens = np.random.default_rng(4).integers(0, 5, (LONGEST + 1, 200))
    found = []
    for rows in (1, 2, 3, 17, 64, 200):
        states, bits = initial_states(onnx.manifest.states, rows), b""
        for token in tokens[:, :rows]:
            logits, states = onnx.advance(token, states)
            bits += logits[0].tobytes()
        found.append(bits)
    assert len(set(found)) == 1
