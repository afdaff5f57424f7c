"""What the recurrent architectures share: embedded characters, layers of cells, a linear head."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from serving import checks
from serving.manifest import StateSpec
from trainer.models.base import CharModel, States, is_real, state


@dataclass(frozen=True)
class RecurrentConfig:
    """Knobs of a recurrent network.

    Attributes:
        layers: how many, one above the other.
        hidden: H, the width of each layer.
        embedding: E, the width of a character's vector.
        dropout: the share of values dropped in training: of embeddings and at the end the same ones
            at every position of a string (Gal and Ghahramani 2016), between layers any.
        weight_dropout: the share of recurrent weights dropped in training, for a batch at a time
            (Merity et al. 2017, arXiv:1708.02182).
    """

    layers: int = 2
    hidden: int = 256
    embedding: int = 128
    dropout: float = 0.4
    weight_dropout: float = 0.5

    def __post_init__(self) -> None:
        checks.whole("layers", self.layers, 1, 64)
        checks.whole("hidden", self.hidden, 1, 8192)
        checks.whole("embedding", self.embedding, 1, 8192)
        checks.real("dropout", self.dropout, 0.0, 0.95)
        checks.real("weight_dropout", self.weight_dropout, 0.0, 0.95)


class Recurrent(CharModel):
    """Layers of a cell over embedded characters.

    Recurrent weights start orthogonal (Saxe et al. 2013), so that early gradients reach the start of
    the string; the head starts small, so that all characters are equally likely.

    Attributes:
        network: PyTorch's layers of the cell, for the parallel forward.
        gates: G, how many vectors of width H a cell computes from its input.
        memories: names of what a layer carries from one character to the next; the first is its output.
    """

    Config = RecurrentConfig
    network: ClassVar[Callable[..., nn.RNNBase]]
    gates: ClassVar[int]
    memories: ClassVar[tuple[str, ...]] = ("hidden",)

    def __init__(self, config: RecurrentConfig, vocabulary_size: int, max_length: int) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(vocabulary_size, config.embedding)
        self.layers = self.network(
            config.embedding,
            config.hidden,
            config.layers,
            batch_first=True,
            dropout=config.dropout if config.layers > 1 else 0.0,
        )
        self.head = nn.Linear(config.hidden, vocabulary_size)
        self._initialise()

    def _initialise(self) -> None:
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        for name, parameter in self.layers.named_parameters():
            if name.startswith("weight_hh"):
                for gate in parameter.data.chunk(self.gates):  # G x [H, H]
                    nn.init.orthogonal_(gate)
            elif name.startswith("bias"):
                nn.init.zeros_(parameter)

    @abstractmethod
    def cell(self, inputs: Tensor, memories: States, weight: Tensor, bias: Tensor) -> States:
        """A layer's memories after one character, from its equations.

        Args:
            inputs: the character's share of the gates, [B, G * H].
            memories: before the character, [B, H] each.
            weight: of the last output, [G * H, H].
            bias: that goes with it, [G * H].
        """

    def activations(self, tokens: Tensor) -> dict[str, Tensor]:
        """Each layer's memories at every character: [N, H] each; see CharModel."""
        states, seen = self.initial_states(len(tokens)), []
        for token in tokens.T:
            _, states = self.step(token, states)
            seen.append(states)
        real = is_real(tokens)
        return {
            spec.name.replace("_", " "): torch.stack(memory, dim=1)[real]
            for spec, memory in zip(self.state_specs(), zip(*seen, strict=True), strict=True)
        }

    def forward(self, tokens: Tensor) -> Tensor:
        """See CharModel."""
        x = self._drop(self.embedding(tokens))  # [B, T, E]
        x, _ = functional_call(self.layers, self._dropped_weights(), (x,))  # [B, T, H]
        logits: Tensor = self.head(self._drop(x))  # [B, T, V]
        return logits

    def _dropped_weights(self) -> dict[str, Tensor]:
        share = self.config.weight_dropout
        if not self.training or share == 0:
            return {}
        return {
            name: F.dropout(weight, share)
            for name, weight in self.layers.named_parameters()
            if name.startswith("weight_hh")
        }

    def _drop(self, x: Tensor) -> Tensor:
        mask = torch.ones_like(x[:, :1])  # [B, 1, E or H]
        return x * F.dropout(mask, self.config.dropout, self.training)

    def step(self, token: Tensor, states: States) -> tuple[Tensor, States]:
        """One character through every layer.

        The first layer's input is one of V vectors, so its product with the weights is a table, which
        is folded when the graph is loaded: one matrix product less.
        """
        after: list[Tensor] = []
        each = len(self.memories)
        for layer, (w_in, w_hidden, b_in, b_hidden) in enumerate(self.layers.all_weights):
            if layer == 0:
                inputs = F.linear(self.embedding.weight, w_in, b_in)[token]  # [B, G * H]
            else:
                inputs = F.linear(after[-each], w_in, b_in)  # [B, G * H]
            memories = states[layer * each : (layer + 1) * each]
            after += self.cell(inputs, memories, w_hidden, b_hidden)
        return self.head(after[-each]), tuple(after)  # [B, V]

    def state_specs(self) -> tuple[StateSpec, ...]:
        """Each layer's memories."""
        return tuple(
            state(f"{name}_{layer}", self.config.hidden)
            for layer in range(self.config.layers)
            for name in self.memories
        )
