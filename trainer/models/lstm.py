"""The LSTM: layers of long short-term memory over embedded characters."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from serving import checks
from serving.manifest import StateSpec
from trainer.models.base import CharModel, States, state


@dataclass(frozen=True)
class LSTMConfig:
    """Knobs of the LSTM.

    Attributes:
        layers: how many, one above the other.
        hidden: H, the width of each layer.
        embedding: E, the width of a character's vector.
        dropout: the share of values dropped in training: of embeddings and at the end the same ones
            at every position of a string (Gal and Ghahramani 2016), between layers any.
    """

    layers: int = 2
    hidden: int = 192
    embedding: int = 192
    dropout: float = 0.3

    def __post_init__(self) -> None:
        checks.whole("layers", self.layers, 1, 64)
        checks.whole("hidden", self.hidden, 1, 8192)
        checks.whole("embedding", self.embedding, 1, 8192)
        checks.real("dropout", self.dropout, 0.0, 0.95)


class LSTM(CharModel):
    """Graves 2013 (arXiv:1308.0850), on the cell of Hochreiter and Schmidhuber 1997.

    The forget gate's bias starts at 1 (Jozefowicz et al. 2015) and the recurrent weights are
    orthogonal (Saxe et al. 2013), so that early gradients reach the start of the string.
    """

    Config = LSTMConfig

    def __init__(self, config: LSTMConfig, vocabulary_size: int, max_length: int) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(vocabulary_size, config.embedding)
        self.lstm = nn.LSTM(
            config.embedding,
            config.hidden,
            config.layers,
            batch_first=True,
            dropout=config.dropout if config.layers > 1 else 0.0,
        )
        self.head = nn.Linear(config.hidden, vocabulary_size)
        self._initialise()

    def _initialise(self) -> None:
        nn.init.normal_(self.head.weight, std=0.02)  # near-equal logits: the first loss is ln V
        nn.init.zeros_(self.head.bias)
        for name, parameter in self.lstm.named_parameters():
            if name.startswith("weight_hh"):
                for gate in parameter.data.chunk(4):  # 4 x [H, H]
                    nn.init.orthogonal_(gate)
            elif name.startswith("bias"):
                nn.init.zeros_(parameter)
            if name.startswith("bias_ih"):
                parameter.data[self.config.hidden : 2 * self.config.hidden] = 1.0

    def forward(self, tokens: Tensor) -> Tensor:
        """See CharModel."""
        x = self._drop(self.embedding(tokens))  # [B, T, E]
        x, _ = self.lstm(x)  # [B, T, H]
        logits: Tensor = self.head(self._drop(x))  # [B, T, V]
        return logits

    def _drop(self, x: Tensor) -> Tensor:
        mask = torch.ones_like(x[:, :1])  # [B, 1, E or H]
        return x * F.dropout(mask, self.config.dropout, self.training)

    def step(self, token: Tensor, states: States) -> tuple[Tensor, States]:
        """One character through the cells, written out from their equations.

        The first layer's input is one of V vectors, so its product with the weights is a table that
        is folded when the graph is loaded: one matrix product less.
        """
        after: list[Tensor] = []
        x = token
        for layer in range(self.config.layers):
            hidden, cell = states[2 * layer], states[2 * layer + 1]  # [B, H] each
            w_in, w_hidden, b_in, b_hidden = self.lstm.all_weights[layer]
            if layer == 0:
                gates = F.linear(self.embedding.weight, w_in, b_in + b_hidden)[x]  # [B, 4H]
            else:
                gates = F.linear(x, w_in, b_in + b_hidden)  # [B, 4H]
            gates = gates + hidden @ w_hidden.T
            enter, forget, candidate, leave = gates.chunk(4, dim=1)  # [B, H] each
            cell = forget.sigmoid() * cell + enter.sigmoid() * candidate.tanh()
            x = leave.sigmoid() * cell.tanh()
            after += [x, cell]
        return self.head(x), tuple(after)  # [B, V]

    def state_specs(self) -> tuple[StateSpec, ...]:
        """A hidden and a cell vector a layer."""
        return tuple(
            state(f"{kind}_{layer}", self.config.hidden)
            for layer in range(self.config.layers)
            for kind in ("hidden", "cell")
        )
