"""A Transformer with layer norms as the same function with RMS norms, which take less time.

A layer norm is an RMS norm of x less its mean, which need not be taken away if nothing that is added up to x
has one: no row of a table, and no W h + b, where neither the columns of W nor b have one (Ashkboos et al.
2024, "SliceGPT", arXiv:2401.15024). Its bias goes through the layer that comes after it.
"""

import copy
from typing import Any

from torch import nn

from trainer.models.transformer import Transformer


def with_rms_norms(model: Transformer) -> Transformer:
    """The same function, of RMS norms alone; `model` itself if it has no others."""
    if not isinstance(model.norm, nn.LayerNorm):
        return model
    same: Any = copy.deepcopy(model).requires_grad_(False).double()
    for table in (same.embedding, same.positions):
        table.weight -= table.weight.mean(dim=1, keepdim=True)
    for block in same.blocks:
        for leaving in (block.attention.out, block.feed_forward.leave):
            leaving.weight -= leaving.weight.mean(dim=0)
            leaving.bias -= leaving.bias.mean()
        block.before_attention = _rms_norm(block.before_attention, block.attention.qkv)
        block.before_feed_forward = _rms_norm(block.before_feed_forward, block.feed_forward.enter)
    same.norm = _rms_norm(same.norm, same.head)
    found: Transformer = same.float()
    return found


def _rms_norm(norm: nn.LayerNorm, after: nn.Linear) -> nn.RMSNorm:
    """What is left of a layer norm when the layer after it has got its bias."""
    bias = after.weight @ norm.bias
    after.bias = nn.Parameter(bias if after.bias is None else after.bias + bias, False)
    rms = nn.RMSNorm(norm.normalized_shape, norm.eps)
    rms.weight = norm.weight
    return rms
