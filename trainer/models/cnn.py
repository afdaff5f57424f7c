"""The CNN: dilated causal convolutions."""

from dataclasses import dataclass
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from serving import checks
from serving.manifest import StateSpec
from trainer.models.base import CharModel, States, state

CYCLES = 2


@dataclass(frozen=True)
class CNNConfig:
    """Knobs of the CNN.

    Attributes:
        hidden: H, the channels of the residual path.
        skip: S, the channels of the skip path.
        layers: how many; the dilation of layer i is 2 ** (i % cycle). 0 for two cycles.
        cycle: layers until the dilation starts at 1 again; 0 for as many as see the longest string.
        dropout: the share of values dropped in training: of embeddings and at the end the same ones at
            every position of a string, of each layer's gated output any.
    """

    hidden: int = 96
    skip: int = 192
    layers: int = 0
    cycle: int = 0
    dropout: float = 0.25

    def __post_init__(self) -> None:
        checks.whole("hidden", self.hidden, 1, 8192)
        checks.whole("skip", self.skip, 1, 8192)
        checks.whole("layers", self.layers, 0, 256)
        checks.whole("cycle", self.cycle, 0, 16)
        checks.real("dropout", self.dropout, 0.0, 0.95)


class Gate(nn.Module):
    """Half of the channels through tanh, gated by the other half."""

    def forward(self, x: Tensor) -> Tensor:
        """[..., 2H] to [..., H]."""
        filter_, gate = x.chunk(2, dim=-1)  # [..., H] each
        return filter_.tanh() * gate.sigmoid()


class Layer(nn.Module):
    """A gated, dilated convolution of kernel size 2 with a residual and a skip output."""

    def __init__(self, config: CNNConfig, dilation: int, is_last: bool) -> None:
        super().__init__()
        hidden, skip = config.hidden, config.skip
        self.dilation: int = dilation
        self.old = nn.Linear(hidden, 2 * hidden, bias=False)  # of the character `dilation` ago
        self.new = nn.Linear(hidden, 2 * hidden)
        self.gate = Gate()
        self.dropout = nn.Dropout(config.dropout)
        self.residual = None if is_last else nn.Linear(hidden, hidden)
        self.skip = nn.Linear(hidden, skip)

    def forward(self, x: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """The next layer's input [..., H] and this one's share of the skip path [..., S].

        Args:
            x: [..., H].
            before: what x was `dilation` characters ago, zero before the start: [..., H].
        """
        z = self.dropout(self.gate(self.old(before) + self.new(x)))  # [..., H]
        return x if self.residual is None else x + self.residual(z), self.skip(z)


class CNN(CharModel):
    """WaveNet: van den Oord et al. 2016 (arXiv:1609.03499).

    A step keeps one queue a layer, of as many inputs as the layer's dilation, so that a character costs
    one pass through the layers, however far back they see (Paine et al. 2016, arXiv:1611.09482).
    """

    Config = CNNConfig
    training_defaults: ClassVar = {"optimizer": "muon", "learning_rate": 0.006, "steps": 2500}

    def __init__(self, config: CNNConfig, vocabulary_size: int, max_length: int) -> None:
        super().__init__()
        self.config = config
        cycle = config.cycle or max_length.bit_length()
        count = config.layers or CYCLES * cycle
        self.embedding = nn.Embedding(vocabulary_size, config.hidden)
        layers = (Layer(config, 2 ** (i % cycle), is_last=i == count - 1) for i in range(count))
        self.layers = cast("list[Layer]", nn.ModuleList(layers))
        self.hidden = nn.Linear(config.skip, config.skip)
        self.head = nn.Linear(config.skip, vocabulary_size)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def watched(self) -> dict[str, nn.Module]:
        """Each layer's gated output."""
        return {f"layer {i}": layer.gate for i, layer in enumerate(self.layers)}

    def forward(self, tokens: Tensor) -> Tensor:
        """See CharModel."""
        x = self._drop(self.embedding(tokens))  # [B, T, H]
        total = x.new_zeros(())
        for layer in self.layers:
            before = F.pad(x, (0, 0, layer.dilation, 0))[:, : x.shape[1]]  # [B, T, H]
            x, skip = layer(x, before)
            total = total + skip  # [B, T, S]
        return self._read(total)  # [B, T, V]

    def _drop(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        return x * F.dropout(torch.ones_like(x[:, :1]), self.config.dropout)  # mask: [B, 1, H or S]

    def _read(self, total: Tensor) -> Tensor:
        logits: Tensor = self.head(self._drop(self.hidden(total.relu()).relu()))  # [..., V]
        return logits

    def step(self, token: Tensor, states: States) -> tuple[Tensor, States]:
        """See CharModel."""
        x = self.embedding(token)  # [B, H]
        total, after = x.new_zeros(()), []
        for layer, queue in zip(self.layers, states, strict=True):  # queue: [B, dilation, H]
            after.append(torch.cat([queue[:, 1:], x[:, None]], dim=1))
            x, skip = layer(x, queue[:, 0])
            total = total + skip  # [B, S]
        return self._read(total), tuple(after)  # [B, V]

    def state_specs(self) -> tuple[StateSpec, ...]:
        """A queue of inputs a layer, the oldest first."""
        return tuple(
            state(f"queue_{i}", layer.dilation, self.config.hidden)
            for i, layer in enumerate(self.layers)
        )
