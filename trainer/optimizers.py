"""The optimisers by name: each takes a model's parameters in groups, and steps all of them.

`adamw`   AdamW (Loshchilov and Hutter 2017, arXiv:1711.05101) for everything; decay on matrices alone.
`muon`    Muon (Jordan et al. 2024) for the matrices between two layers, whose updates it makes
          orthogonal; AdamW for embeddings, the head and vectors.
"""

from typing import Any

import torch
from torch import nn

from trainer.models.base import CharModel

OPTIMIZERS = ("adamw", "muon")


class Optimizer:
    """One or two optimisers of PyTorch, stepped together."""

    def __init__(
        self, model: CharModel, kind: str, rate: float, weight_decay: float, beta2: float
    ) -> None:
        hidden = _hidden_matrices(model) if kind == "muon" else []
        inside = {id(parameter) for parameter in hidden}
        others = [p for p in model.parameters() if p.requires_grad and id(p) not in inside]
        groups = [
            {"params": [p for p in others if p.dim() > 1], "weight_decay": weight_decay},
            {"params": [p for p in others if p.dim() <= 1], "weight_decay": 0.0},
        ]
        self._all: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(groups, lr=rate, betas=(0.9, beta2), fused=True)
        ]
        if hidden:
            # Updates as large as AdamW's, so that one rate and one decay suit both.
            muon = torch.optim.Muon(
                hidden, lr=rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
            )
            self._all.append(muon)

    @property
    def rate(self) -> float:
        """The learning rate."""
        rate: float = self._all[0].param_groups[0]["lr"]
        return rate

    @rate.setter
    def rate(self, rate: float) -> None:
        for optimizer in self._all:
            for group in optimizer.param_groups:
                group["lr"] = rate

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for optimizer in self._all:
            optimizer.zero_grad()

    def step(self) -> None:
        """Move all parameters."""
        for optimizer in self._all:
            optimizer.step()

    def state_dict(self) -> list[dict[str, Any]]:
        """Everything that the next step depends on."""
        return [optimizer.state_dict() for optimizer in self._all]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Go on from what `state_dict` gave."""
        for optimizer, state in zip(self._all, states, strict=True):
            optimizer.load_state_dict(state)


def _hidden_matrices(model: CharModel) -> list[nn.Parameter]:
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    head = getattr(model, "head", None)
    tables |= {id(parameter) for parameter in head.parameters()} if head is not None else set()
    return [p for p in model.parameters() if p.dim() == 2 and id(p) not in tables]
