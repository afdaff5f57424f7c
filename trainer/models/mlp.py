"""The MLP: a window of characters, embedded side by side, through hidden layers."""

import copy
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from serving import checks
from serving.manifest import StateSpec
from serving.vocabulary import BOUNDARY
from trainer.models.base import CharModel, States, is_real, state

NORMS = ("batch", "layer", "none")
TANH_GAIN = 5 / 3  # keeps the deviation through a tanh near 1 (He et al. 2015)


@dataclass(frozen=True)
class MLPConfig:
    """Knobs of the MLP.

    Attributes:
        context: characters in the window; 0 for the longest string and its start.
        embedding: E, the width of a character's vector.
        hidden: H, the width of the hidden layers.
        layers: how many of them.
        norm: what stands before each tanh: `batch`, `layer` or `none`.
        dropout: the share of values dropped in training, of each hidden layer.
    """

    context: int = 0
    embedding: int = 32
    hidden: int = 512
    layers: int = 1
    norm: str = "batch"
    dropout: float = 0.3

    def __post_init__(self) -> None:
        checks.whole("context", self.context, 0, 513)
        checks.whole("embedding", self.embedding, 1, 8192)
        checks.whole("hidden", self.hidden, 1, 65536)
        checks.whole("layers", self.layers, 1, 64)
        checks.real("dropout", self.dropout, 0.0, 0.95)
        checks.one_of("norm", self.norm, NORMS)


class MLP(CharModel):
    """Bengio et al. 2003, "A neural probabilistic language model" (JMLR 3).

    Before the start of a string the window holds boundaries. Batch normalisation (Ioffe and Szegedy
    2015) counts real characters alone; in evaluation it uses its running statistics.
    """

    Config = MLPConfig
    # Strings of one length would give a batch statistics of its own, unlike those of evaluation.
    training_defaults: ClassVar = {"pool": 1}

    def __init__(self, config: MLPConfig, vocabulary_size: int, max_length: int) -> None:
        super().__init__()
        self.config = config
        self.context = config.context or max_length + 1
        self.embedding = nn.Embedding(vocabulary_size, config.embedding)
        widths = [self.context * config.embedding, *[config.hidden] * config.layers]
        self.linears = nn.ModuleList(self._linear(*pair) for pair in pairwise(widths))
        norm = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm, "none": nn.Identity}[config.norm]
        self.norms = nn.ModuleList(norm(config.hidden) for _ in self.linears)
        self.tanhs = nn.ModuleList(nn.Tanh() for _ in self.linears)
        self.head = nn.Linear(config.hidden, vocabulary_size)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def _linear(self, before: int, after: int) -> nn.Linear:
        # Batch normalisation would take a bias out again.
        linear = nn.Linear(before, after, bias=self.config.norm != "batch")
        nn.init.normal_(linear.weight, std=TANH_GAIN / before**0.5)
        if linear.bias is not None:
            nn.init.zeros_(linear.bias)
        return linear

    @torch.no_grad()
    def for_export(self) -> "MLP":
        """Batch normalisation, a scale and a shift in evaluation, folded into the layers before it."""
        if self.config.norm != "batch":
            return self
        folded = copy.deepcopy(self)
        for i, (linear, norm) in enumerate(zip(self.linears, self.norms, strict=True)):
            folded.linears[i] = _folded(linear, norm)
            folded.norms[i] = nn.Identity()
        return folded

    def watched(self) -> dict[str, nn.Module]:
        """The hidden layers."""
        return {f"hidden {i}": tanh for i, tanh in enumerate(self.tanhs)}

    @property
    def sees(self) -> int:
        """The window."""
        return self.context

    def forward(self, tokens: Tensor) -> Tensor:
        """See CharModel."""
        windows, real = self.windows(tokens)
        found = self._read(windows)  # [N, V]
        return found.new_zeros(*tokens.shape, found.shape[1]).masked_scatter(real[..., None], found)

    def windows(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The window at each real character, [N, context], and which of tokens [B, T] those are.

        Padding is left out, since a norm's statistics must not count it.
        """
        padded = F.pad(tokens, (self.context - 1, 0), value=BOUNDARY)
        real = is_real(tokens)  # [B, T]
        return padded.unfold(1, self.context, 1)[real], real

    def _read(self, windows: Tensor) -> Tensor:
        x = self.embedding(windows).flatten(1)  # [N, context * E]
        for linear, norm, tanh in zip(self.linears, self.norms, self.tanhs, strict=True):
            x = F.dropout(tanh(norm(linear(x))), self.config.dropout, self.training)  # [N, H]
        logits: Tensor = self.head(x)  # [N, V]
        return logits

    def step(self, token: Tensor, states: States) -> tuple[Tensor, States]:
        """See CharModel."""
        (window,) = states  # [B, context - 1]
        whole = torch.cat([window, token[:, None]], dim=1)  # [B, context]
        return self._read(whole), (whole[:, 1:],)  # [B, V]

    def state_specs(self) -> tuple[StateSpec, ...]:
        """The characters before the last in the window, the oldest first."""
        return (state("window", self.context - 1, dtype="int64"),)


def _folded(linear: nn.Module, norm: nn.Module) -> nn.Linear:
    assert isinstance(linear, nn.Linear)
    assert isinstance(norm, nn.BatchNorm1d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()  # [H]
    whole = nn.Linear(linear.in_features, linear.out_features)
    whole.weight.copy_(linear.weight * scale[:, None])
    whole.bias.copy_(norm.bias - norm.running_mean * scale)
    return whole
