"""Layer norms as RMS norms: the same function."""

import pytest
import torch
from torch import nn

from trainer.models.rms_norms import with_rms_norms
from trainer.models.transformer import Transformer, TransformerConfig
from trainer.models.transformer_modern import TransformerModern

KNOBS = TransformerConfig(layers=3, heads=2, embedding=12)


@pytest.fixture
def model() -> Transformer:
    torch.manual_seed(5)
    model = Transformer(KNOBS, 5, 7).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, mean=0.3, std=0.5)
    return model


def test_it_is_the_same_function_without_a_layer_norm(model: Transformer) -> None:
    same = with_rms_norms(model)
    assert not any(isinstance(part, nn.LayerNorm) for part in same.modules())
    tokens = torch.randint(0, 5, (40, 8))
    with torch.inference_mode():
        wanted = model.double()(tokens)
        got = same.double()(tokens)
    assert (got - wanted).abs().max() < 1e-5  # weights are kept in float32
    assert wanted.std() > 1


def test_what_runs_along_the_residual_path_has_no_mean(model: Transformer) -> None:
    same = with_rms_norms(model)
    seen: list[torch.Tensor] = []
    for block in same.blocks:
        block.register_forward_hook(lambda _, __, output: seen.append(output))
    with torch.inference_mode():
        same(torch.randint(0, 5, (4, 8)))
    assert len(seen) == KNOBS.layers
    assert all(output.mean(dim=-1).abs().max() < 1e-5 for output in seen)


def test_the_model_stays_as_it_was(model: Transformer) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with_rms_norms(model)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_one_of_rms_norms_is_taken_as_it_is() -> None:
    model = TransformerModern(KNOBS, 5, 7)
    assert with_rms_norms(model) is model
