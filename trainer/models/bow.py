"""The bag of words: what characters came before, by their mean."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from serving import checks
from serving.manifest import StateSpec
from trainer.models.base import CharModel, States, state


@dataclass(frozen=True)
class BagOfWordsConfig:
    """Knobs of the bag of words.

    Attributes:
        embedding: E, the width of a character's vector.
        hidden: H, the width of the layers above the mean.
        layers: how many of them.
        dropout: the share of values dropped in training, of each layer's output.
    """

    embedding: int = 256
    hidden: int = 256
    layers: int = 2
    dropout: float = 0.2

    def __post_init__(self) -> None:
        checks.whole("embedding", self.embedding, 1, 8192)
        checks.whole("hidden", self.hidden, 1, 8192)
        checks.whole("layers", self.layers, 1, 64)
        checks.real("dropout", self.dropout, 0.0, 0.95)


class BagOfWords(CharModel):
    """The continuous bag of words of Mikolov et al. 2013 (arXiv:1301.3781), made causal.

    A character's vector is its embedding and its position's. What is predicted from is the last vector
    and the mean of all so far, so all that is carried on is their sum and their count.
    """

    Config = BagOfWordsConfig

    def __init__(self, config: BagOfWordsConfig, vocabulary_size: int, max_length: int) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(vocabulary_size, config.embedding)
        self.positions = nn.Embedding(max_length + 1, config.embedding)
        widths = [2 * config.embedding, *[config.hidden] * config.layers]
        self.hidden = nn.Sequential(
            *(
                layer
                for before, after in pairwise(widths)
                for layer in (nn.Linear(before, after), nn.GELU(), nn.Dropout(config.dropout))
            )
        )
        self.head = nn.Linear(config.hidden, vocabulary_size)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def watched(self) -> dict[str, nn.Module]:
        """The hidden layers."""
        gelus = [module for module in self.hidden if isinstance(module, nn.GELU)]
        return {f"hidden {i}": gelu for i, gelu in enumerate(gelus)}

    def forward(self, tokens: Tensor) -> Tensor:
        """See CharModel."""
        counts = torch.arange(tokens.shape[1], device=tokens.device)  # [T]
        x = self.embedding(tokens) + self.positions(counts)  # [B, T, E]
        mean = x.cumsum(dim=1) / (counts + 1)[:, None]
        return self._read(x, mean)  # [B, T, V]

    def _read(self, x: Tensor, mean: Tensor) -> Tensor:
        logits: Tensor = self.head(self.hidden(torch.cat([x, mean], dim=-1)))  # [..., V]
        return logits

    def step(self, token: Tensor, states: States) -> tuple[Tensor, States]:
        """See CharModel."""
        total, count = states  # [B, E], [B, 1]
        x = self.embedding(token) + self.positions(count[:, 0])  # [B, E]
        total, count = total + x, count + 1
        return self._read(x, total / count), (total, count)  # [B, V]

    def state_specs(self) -> tuple[StateSpec, ...]:
        """The sum of the vectors so far, and how many they are."""
        return state("sum", self.config.embedding), state("count", 1, dtype="int64")
