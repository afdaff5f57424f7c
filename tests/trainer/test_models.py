"""What holds for every architecture of the registry."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from serving.errors import InvalidArgument
from trainer.models import MODELS, architecture
from trainer.models.base import CharModel
from trainer.models.bigram import Bigram, BigramConfig

V, LONGEST = 11, 9
TRAINED = [name for name in MODELS if not architecture(name).counted]


def build(name: str) -> CharModel:
    """A model in float64, lest rounding hide or feign a difference."""
    torch.manual_seed(0)
    found = architecture(name)
    model = found(found.Config(), V, LONGEST)
    if found.counted:
        tokens = torch.randint(V, (500,))
        model.fit_counts(tokens, tokens.roll(-1))
    else:
        with torch.no_grad():  # away from the first weights, at which many terms vanish
            for parameter in model.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model.double().eval()


def strings(rows: int, length: int) -> Tensor:
    """Random strings as they are fed: the boundary, then characters."""
    tokens = torch.randint(1, V, (rows, length))
    tokens[:, 0] = 0
    return tokens


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_stepping_gives_what_the_forward_gives(name: str) -> None:
    model = build(name)
    tokens = strings(5, LONGEST + 1)
    states = tuple(s.double() if s.is_floating_point() else s for s in model.initial_states(5))
    stepped = []
    for position in range(tokens.shape[1]):
        logits, states = model.step(tokens[:, position], states)
        stepped.append(logits)
    torch.testing.assert_close(torch.stack(stepped, dim=1), model(tokens), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_a_character_sees_nothing_that_comes_after_it(name: str) -> None:
    model = build(name)
    tokens = strings(3, LONGEST)
    changed = torch.cat([tokens[:, :5], strings(3, LONGEST)[:, 1:5]], dim=1)
    torch.testing.assert_close(model(tokens)[:, :5], model(changed)[:, :5])


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_states_have_the_shapes_that_are_told(name: str) -> None:
    model = build(name)
    _, after = model.float().step(torch.zeros(4, dtype=torch.int64), model.initial_states(4))
    assert [tuple(s.shape[1:]) for s in after] == [spec.shape for spec in model.state_specs()]
    assert len({spec.name for spec in model.state_specs()}) == len(after)


@pytest.mark.parametrize("name", TRAINED)
def test_the_first_loss_is_that_of_guessing_evenly(name: str) -> None:
    torch.manual_seed(1)
    found = architecture(name)
    model = found(found.Config(), V, LONGEST).eval()
    tokens = strings(500, LONGEST)
    loss = F.cross_entropy(model(tokens).flatten(0, 1), tokens.roll(-1, 1).flatten())
    assert float(loss.detach()) == pytest.approx(math.log(V), rel=0.02)


@pytest.mark.parametrize("name", TRAINED)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    model = build(name).train()
    tokens = strings(20, LONGEST)
    F.cross_entropy(model(tokens).flatten(0, 1), tokens.roll(-1, 1).flatten()).backward()
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().max() > 0


def test_the_bigram_is_the_smoothed_table_of_counts() -> None:
    model = Bigram(BigramConfig(alpha=0.5), 3, 9)
    tokens, targets = torch.tensor([0, 1, 1, 0, 2]), torch.tensor([1, 1, 0, 2, 0])
    model.fit_counts(tokens, targets)
    expected = torch.tensor([[0.5, 1.5, 1.5], [1.5, 1.5, 0.5], [1.5, 0.5, 0.5]])
    expected = expected / expected.sum(dim=1, keepdim=True)
    torch.testing.assert_close(model.log_probabilities.exp(), expected)


@pytest.mark.parametrize("name", MODELS)
def test_knobs_out_of_range_are_refused_by_name(name: str) -> None:
    config = architecture(name).Config
    for knob in config.__dataclass_fields__:
        with pytest.raises(InvalidArgument, match=f"^{knob}: must be"):
            config(**{knob: -1})


def test_an_unknown_architecture_is_told_with_those_there_are() -> None:
    with pytest.raises(InvalidArgument, match="'gan' is not one of bigram, bigram-neural"):
        architecture("gan")
