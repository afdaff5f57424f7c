import pytest
import torch

from trainer.models import architecture
from trainer.optimizers import OPTIMIZERS, Optimizer


def build(kind: str) -> tuple[torch.nn.Module, Optimizer]:
    torch.manual_seed(0)
    found = architecture("gru")
    model = found(found.Config(hidden=8, embedding=4, dropout=0, weight_dropout=0), 5, 6)
    return model, Optimizer(model, kind, 0.01, 0.1, 0.99)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_every_parameter_moves_and_its_state_can_be_kept(kind: str) -> None:
    moved = []
    for is_kept in (False, True):
        model, optimizer = build(kind)
        for step in range(4):
            if is_kept and step == 2:
                state = optimizer.state_dict()
                optimizer = Optimizer(model, kind, 0.01, 0.1, 0.99)  # type: ignore[arg-type]
                optimizer.load_state_dict(state)
            optimizer.zero_grad()
            logits = model(torch.tensor([[0, 1, 2], [0, 3, 4]]))
            (logits.log_softmax(-1)[..., 1].sum() * (step + 1)).backward()
            optimizer.step()
        moved.append([p.detach().clone() for p in model.parameters()])
    first = list(build(kind)[0].parameters())
    assert all(not torch.equal(a, b) for a, b in zip(first, moved[0], strict=True))
    assert all(torch.equal(a, b) for a, b in zip(*moved, strict=True))


def test_muon_moves_the_matrices_between_layers_orthogonally() -> None:
    """All singular values of such an update are about the same, whatever the gradient's."""
    model, optimizer = build("muon")
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    torch.manual_seed(1)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter) * torch.logspace(0, -3, parameter.shape[-1])
    optimizer.step()
    updates = {name: p.detach() - 0.999 * before[name] for name, p in model.named_parameters()}

    values = torch.linalg.svdvals(updates["layers.weight_hh_l0"])
    assert values.max() / values.min() < 10  # of the gradient it is about 1,000
    for name in ("head.weight", "embedding.weight"):  # AdamW's first step has one size everywhere
        sizes = updates[name].abs()
        assert sizes.max() / sizes.min() < 1.01


def test_the_rate_is_that_of_all_parts() -> None:
    _, optimizer = build("muon")
    optimizer.rate = 0.5
    assert {g["lr"] for part in optimizer._all for g in part.param_groups} == {0.5}
