"""The Transformer, exactly as in GPT-2."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from serving import checks
from serving.errors import InvalidArgument
from serving.manifest import StateSpec
from trainer.models.base import FUSED, CharModel, States, state

if TYPE_CHECKING:
    import onnx


HEAD_MULTIPLE = 16
"""What the width of a head must be a multiple of for the fast graph."""


@dataclass(frozen=True)
class TransformerConfig:
    """Knobs of a Transformer.

    Attributes:
        layers: how many blocks.
        heads: of attention in each; they share the width evenly.
        embedding: E, the width of the residual path.
        dropout: the share of values dropped in training: of embeddings, of attention, of each branch.
        token_dropout: the share of characters whose whole vector is dropped in training, so that no
            context is ever seen just as it is (Gal and Ghahramani 2016, arXiv:1512.05287).
    """

    layers: int = 4
    heads: int = 4
    embedding: int = 128
    dropout: float = 0.1
    token_dropout: float = 0.1

    def __post_init__(self) -> None:
        checks.whole("layers", self.layers, 1, 64)
        checks.whole("heads", self.heads, 1, 64)
        checks.whole("embedding", self.embedding, 2, 8192)
        checks.real("dropout", self.dropout, 0.0, 0.95)
        checks.real("token_dropout", self.token_dropout, 0.0, 0.95)
        if self.embedding % (2 * self.heads):
            raise InvalidArgument(
                "embedding",
                f"must be a multiple of twice heads, {self.heads}, not {self.embedding}",
            )


class Cache:
    """Keys and values of one layer so far, and where the new ones go."""

    def __init__(self, keys: Tensor, values: Tensor, position: Tensor) -> None:
        length = keys.shape[2]
        places = torch.arange(length, device=keys.device)
        self.keys, self.values = keys, values  # [B, heads, T, D]
        self.here = (places == position)[:, None, :, None]  # [B, 1, T, 1] from position [B, 1]
        self.seen = (places <= position)[:, None, None, :]  # [B, 1, 1, T]

    def add(self, key: Tensor, value: Tensor) -> None:
        """Put one key and one value a row, [B, heads, 1, D] each, in their place."""
        self.keys = torch.where(self.here, key, self.keys)
        self.values = torch.where(self.here, value, self.values)


class Attention(nn.Module):
    """Causal self-attention with several heads (Vaswani et al. 2017, arXiv:1706.03762)."""

    has_bias: ClassVar[bool] = True

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.qkv = nn.Linear(config.embedding, 3 * config.embedding, bias=self.has_bias)
        self.out = nn.Linear(config.embedding, config.embedding, bias=self.has_bias)

    def rotated(self, x: Tensor, positions: Tensor) -> Tensor:
        """Queries or keys as they are compared: here as they come."""
        return x

    def forward(self, x: Tensor, positions: Tensor, cache: Cache | None = None) -> Tensor:
        """[B, T, E] to [B, T, E]: all positions at once, or one character with a cache.

        Args:
            x: what to attend with and to.
            positions: of x in the string, [T], or [B, 1] with a cache.
            cache: gets the new key and value.
        """
        config = self.config
        split = self.qkv(x).unflatten(-1, (3, config.heads, -1))  # [B, T, 3, heads, D]
        query, key, value = split.permute(2, 0, 3, 1, 4)  # [B, heads, T, D] each
        query, key = self.rotated(query, positions), self.rotated(key, positions)
        if cache is None:
            mixed = F.scaled_dot_product_attention(
                query, key, value, dropout_p=config.dropout if self.training else 0, is_causal=True
            )
        else:
            cache.add(key, value)
            scores = query @ cache.keys.transpose(2, 3) / query.shape[-1] ** 0.5  # [B, heads, 1, T]
            weights = scores.masked_fill(~cache.seen, -torch.inf).softmax(dim=-1)
            mixed = weights @ cache.values  # [B, heads, 1, D]
        y: Tensor = self.out(mixed.transpose(1, 2).flatten(2))  # [B, T, E]
        return y


class FeedForward(nn.Module):
    """Two linear layers with GELU in its tanh form between (Hendrycks and Gimpel 2016)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter = nn.Linear(width, 4 * width)
        self.leave = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[..., E] to [..., E]."""
        y: Tensor = self.leave(F.gelu(self.enter(x), approximate="tanh"))
        return y


class Block(nn.Module):
    """Attention and a feed-forward network, each on a branch of its own and normalised before it."""

    attention_kind: ClassVar[type[Attention]] = Attention
    feed_forward_kind: ClassVar[type[nn.Module]] = FeedForward
    norm_kind: ClassVar[type[nn.Module]] = nn.LayerNorm

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.before_attention = self.norm_kind(config.embedding)
        self.attention = self.attention_kind(config)
        self.before_feed_forward = self.norm_kind(config.embedding)
        self.feed_forward = self.feed_forward_kind(config.embedding)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, positions: Tensor, cache: Cache | None = None) -> Tensor:
        """[B, T, E] to [B, T, E]; see Attention."""
        x = x + self.dropout(self.attention(self.before_attention(x), positions, cache))
        y: Tensor = x + self.dropout(self.feed_forward(self.before_feed_forward(x)))
        return y


class Transformer(CharModel):
    """GPT-2: Radford et al. 2019, "Language models are unsupervised multitask learners".

    Learned positions, layer normalisation before each branch and after the last, GELU in its tanh form;
    weights of deviation 0.02, those that end a branch smaller by the root of the number of branches.
    """

    Config = TransformerConfig
    training_defaults: ClassVar = {"optimizer": "muon", "learning_rate": 0.006, "steps": 3500}
    block: ClassVar[type[Block]] = Block

    def __init__(self, config: TransformerConfig, vocabulary_size: int, max_length: int) -> None:
        super().__init__()
        self.config = config
        self.length = max_length + 1
        self.embedding = nn.Embedding(vocabulary_size, config.embedding)
        self.positions: nn.Module = nn.Embedding(self.length, config.embedding)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(self.block(config) for _ in range(config.layers))
        self.norm = self.block.norm_kind(config.embedding)
        self.head = nn.Linear(config.embedding, vocabulary_size, bias=False)
        self._initialise()

    def _initialise(self) -> None:
        branches = 2 * self.config.layers
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                ends_branch = name.endswith(("out.weight", "leave.weight"))
                nn.init.normal_(parameter, std=0.02 / (branches**0.5 if ends_branch else 1))
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def _embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        vectors: Tensor = self.embedding(tokens) + self.positions(positions)  # [B, T, E]
        return vectors

    def _without_some(self, vectors: Tensor) -> Tensor:
        if not self.training:
            return vectors
        is_kept = torch.rand(vectors.shape[:2], device=vectors.device) >= self.config.token_dropout
        return vectors * is_kept[..., None]  # [B, T, E]

    def watched(self) -> dict[str, nn.Module]:
        """The residual path after each block."""
        return {f"block {i}": block for i, block in enumerate(self.blocks)}

    def forward(self, tokens: Tensor) -> Tensor:
        """See CharModel."""
        positions = torch.arange(tokens.shape[1], device=tokens.device)  # [T]
        x = self.dropout(self._without_some(self._embed(tokens, positions)))  # [B, T, E]
        for block in self.blocks:
            x = block(x, positions)
        logits: Tensor = self.head(self.norm(x))  # [B, T, V]
        return logits

    def step(self, token: Tensor, states: States) -> tuple[Tensor, States]:
        """See CharModel."""
        position, *cached = states  # [B, 1], [B, heads, T, D] each
        x = self._embed(token[:, None], position)  # [B, 1, E]
        after = [position + 1]
        for i, block in enumerate(self.blocks):
            cache = Cache(cached[2 * i], cached[2 * i + 1], position)
            x = block(x, position, cache)
            after += [cache.keys, cache.values]
        return self.head(self.norm(x[:, 0])), tuple(after)  # [B, V]

    @property
    def has_step_graph(self) -> bool:
        """Whether onnxruntime's attention is wanted, and takes heads of this width."""
        return (
            self.operators == FUSED
            and self.config.embedding // self.config.heads % HEAD_MULTIPLE == 0
        )

    def step_graph(self) -> "onnx.ModelProto | None":
        """See CharModel."""
        if not self.has_step_graph:
            return None
        from trainer.models.transformer_graph import step_graph

        return step_graph(self)

    def state_specs(self) -> tuple[StateSpec, ...]:
        """The position, and each layer's keys and values at every position."""
        heads = self.config.heads
        shape = (heads, self.length, self.config.embedding // heads)
        return (
            state("position", 1, dtype="int64"),
            *(
                state(f"{kind}_{layer}", *shape, in_place=self.has_step_graph, grows=1)
                for layer in range(self.config.layers)
                for kind in ("keys", "values")
            ),
        )
