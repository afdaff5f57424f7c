from dataclasses import replace

import pytest
import torch
from torch import Tensor

from serving.errors import InvalidArgument
from trainer import backprop
from trainer.cli.gradients import compare
from trainer.config import TrainingConfig
from trainer.models.gru import GRU
from trainer.models.mlp import MLP, MLPConfig
from trainer.models.recurrent import RecurrentConfig
from trainer.training import Training

V = 9


def strings(rows: int, length: int) -> tuple[Tensor, Tensor]:
    tokens = torch.randint(1, V, (rows, length))
    tokens[:, 0] = 0
    tokens[rows // 2 :, length - 2 :] = 0
    targets = tokens.roll(-1, dims=1)
    targets[:, -1] = 0
    targets[rows // 2 :, length - 2 :] = -1
    return tokens, targets


def test_every_gradient_by_hand_is_autograds() -> None:
    rows = compare(32, 1, torch.float64)
    assert len(rows) == 27
    for name, ours, theirs in rows:
        if name not in ("logit_maxes", "bnmean"):  # in theory 0: a shift of all changes nothing
            assert float(theirs.abs().max()) > 1e-6, name
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12, msg=name)


def test_100_steps_by_hand_give_the_weights_that_autograd_gives() -> None:
    weights, statistics = [], []
    for backward in ("autograd", "manual"):
        torch.manual_seed(0)
        model = MLP(MLPConfig(dropout=0.0, hidden=24, embedding=6), V, 8).double()
        config = TrainingConfig(backward=backward, learning_rate=0.01, warmup=5, steps=100)
        training = Training(model, config)
        torch.manual_seed(1)
        batches = [strings(16, 7) for _ in range(100)]
        first = training.update(*batches[0])
        for batch in batches[1:]:
            last = training.update(*batch)
        assert float(last) < float(first)
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
        statistics.append(torch.cat([b.double().flatten() for b in model.buffers()]))
    assert float((weights[0] - weights[1]).abs().max()) < 1e-4
    torch.testing.assert_close(statistics[0], statistics[1], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "changes", [{"layers": 2}, {"norm": "layer"}, {"norm": "none"}, {"dropout": 0.1}]
)
def test_other_networks_are_refused(changes: dict[str, object]) -> None:
    config = replace(MLPConfig(dropout=0.0), **changes)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="manual is written for"):
        backprop.parameters_of(MLP(config, V, 8))
    with pytest.raises(InvalidArgument, match="manual is written for"):
        backprop.parameters_of(GRU(RecurrentConfig(hidden=4), V, 8))
