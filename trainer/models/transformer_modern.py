"""The Transformer as it has been built since: rotary positions, RMS normalisation, gated feed-forward."""

import torch
from torch import Tensor, nn

from trainer.models.transformer import Attention, Block, Transformer, TransformerConfig

ROTARY_BASE = 10_000.0


def rotary_angles(positions: Tensor, width: int) -> Tensor:
    """How far each pair of values is turned at each position: [..., D/2] from [...] and D."""
    half = width // 2
    powers = torch.arange(half, device=positions.device) / half
    return positions[..., None] * ROTARY_BASE**-powers


class RotaryAttention(Attention):
    """Attention by the distance of two characters (Su et al. 2021, arXiv:2104.09864)."""

    has_bias = False

    def rotated(self, x: Tensor, positions: Tensor) -> Tensor:
        """Each pair of values turned by an angle that grows with the position: [B, heads, T, D]."""
        angles = rotary_angles(positions, x.shape[-1])  # [T, D/2] or [B, 1, D/2]
        if angles.dim() == 3:
            angles = angles[:, None]  # [B, 1, 1, D/2]
        cos, sin = angles.cos(), angles.sin()
        first, second = x.chunk(2, dim=-1)  # [B, heads, T, D/2] each
        return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


class SwiGLU(nn.Module):
    """A feed-forward network with a gate (Shazeer 2020, arXiv:2002.05202)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = 8 * width // 3  # as many parameters as one of four times the width without a gate
        self.gate = nn.Linear(width, inner, bias=False)
        self.enter = nn.Linear(width, inner, bias=False)
        self.leave = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., E] to [..., E]."""
        y: Tensor = self.leave(nn.functional.silu(self.gate(x)) * self.enter(x))
        return y


class ModernBlock(Block):
    """LLaMA's block, with the RMS normalisation of Zhang and Sennrich 2019 (arXiv:1910.07467)."""

    attention_kind = RotaryAttention
    feed_forward_kind = SwiGLU
    norm_kind = nn.RMSNorm


class TransformerModern(Transformer):
    """LLaMA: Touvron et al. 2023 (arXiv:2302.13971).

    Attention itself knows how far apart two characters are, so without a table of positions there is no
    longest string but the one that the cache is made for.
    """

    block = ModernBlock

    def __init__(self, config: TransformerConfig, vocabulary_size: int, max_length: int) -> None:
        super().__init__(config, vocabulary_size, max_length)
        self.positions = nn.Identity()

    def _embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        vectors: Tensor = self.embedding(tokens)  # [B, T, E]
        return vectors
