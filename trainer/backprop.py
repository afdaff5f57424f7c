"""Backpropagation by hand through the MLP: every intermediate tensor, and its gradient, written out.

The network is the MLP of one hidden layer with batch normalisation, and the loss cross-entropy. N is the
number of windows, E the embedding's width, H the hidden width, V the vocabulary.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from serving.errors import InvalidArgument
from trainer.data.batches import IGNORED
from trainer.models.base import CharModel
from trainer.models.mlp import MLP

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Parameters:
    """What the network learns, as tensors: C [V, E], W1 [H, C*E], gain and bias [H], W2 [V, H], b2 [V]."""

    embedding: Tensor
    w1: Tensor
    gain: Tensor
    bias: Tensor
    w2: Tensor
    b2: Tensor
    epsilon: float = 1e-5


LEARNED = ("embedding", "w1", "gain", "bias", "w2", "b2")


def parameters_of(model: CharModel) -> Parameters:
    """The parameters of an MLP; raises InvalidArgument for any other network than the one above."""
    norm = model.norms[0] if isinstance(model, MLP) else None
    if (
        not isinstance(model, MLP)
        or not isinstance(norm, nn.BatchNorm1d)
        or len(model.norms) > 1
        or model.config.dropout > 0
    ):
        raise InvalidArgument(
            "backward",
            "manual is written for --model mlp --layers 1 --norm batch --dropout 0 alone",
        )
    embedding, w1 = model.embedding.weight, next(model.linears.parameters())
    return Parameters(
        embedding, w1, norm.weight, norm.bias, model.head.weight, model.head.bias, norm.eps
    )


def forward(p: Parameters, windows: Tensor, targets: Tensor) -> Tensors:
    """Every step from windows [N, context] and targets [N] to the mean loss, one operation each."""
    t: Tensors = {}
    n = len(windows)
    t["emb"] = p.embedding[windows]  # [N, context, E]
    t["embcat"] = t["emb"].flatten(1)  # [N, context * E]
    t["hprebn"] = t["embcat"] @ p.w1.T  # [N, H]
    t["bnmean"] = t["hprebn"].sum(dim=0, keepdim=True) / n  # [1, H]
    t["bndiff"] = t["hprebn"] - t["bnmean"]  # [N, H]
    t["bndiff2"] = t["bndiff"] ** 2
    t["bnvar"] = t["bndiff2"].sum(dim=0, keepdim=True) / n  # [1, H]
    t["bnvar_inv"] = (t["bnvar"] + p.epsilon) ** -0.5
    t["bnraw"] = t["bndiff"] * t["bnvar_inv"]  # [N, H]
    t["hpreact"] = p.gain * t["bnraw"] + p.bias
    t["h"] = t["hpreact"].tanh()
    t["logits"] = t["h"] @ p.w2.T + p.b2  # [N, V]
    t["logit_maxes"] = t["logits"].amax(dim=1, keepdim=True)  # [N, 1]
    t["norm_logits"] = t["logits"] - t["logit_maxes"]  # [N, V]
    t["counts"] = t["norm_logits"].exp()
    t["counts_sum"] = t["counts"].sum(dim=1, keepdim=True)  # [N, 1]
    t["counts_sum_inv"] = t["counts_sum"] ** -1
    t["probs"] = t["counts"] * t["counts_sum_inv"]  # [N, V]
    t["logprobs"] = t["probs"].log()
    t["loss"] = -t["logprobs"][torch.arange(n), targets].mean()
    return t


def backward(p: Parameters, windows: Tensor, targets: Tensor, t: Tensors) -> Tensors:
    """The loss's gradient with respect to every intermediate tensor and every parameter, by name."""
    n = len(windows)
    g: Tensors = {}
    g["logprobs"] = torch.zeros_like(t["logprobs"])
    g["logprobs"][torch.arange(n), targets] = -1 / n
    g["probs"] = g["logprobs"] / t["probs"]
    g["counts_sum_inv"] = (g["probs"] * t["counts"]).sum(dim=1, keepdim=True)  # [N, 1]
    g["counts_sum"] = -g["counts_sum_inv"] * t["counts_sum"] ** -2
    g["counts"] = g["probs"] * t["counts_sum_inv"] + g["counts_sum"]  # [N, V]
    g["norm_logits"] = g["counts"] * t["counts"]
    g["logit_maxes"] = -g["norm_logits"].sum(dim=1, keepdim=True)  # [N, 1]
    at_max = F.one_hot(t["logits"].argmax(dim=1), len(p.b2)).to(p.b2.dtype)  # [N, V]
    g["logits"] = g["norm_logits"] + at_max * g["logit_maxes"]
    return g | hidden_backward(p, windows, t, g["logits"])


def hidden_backward(p: Parameters, windows: Tensor, t: Tensors, dlogits: Tensor) -> Tensors:
    """From the gradient of the logits [N, V] down to the embedding table."""
    n = len(windows)
    g: Tensors = {}
    g["h"] = dlogits @ p.w2  # [N, H]
    g["w2"] = dlogits.T @ t["h"]  # [V, H]
    g["b2"] = dlogits.sum(dim=0)  # [V]
    g["hpreact"] = g["h"] * (1 - t["h"] ** 2)
    g["gain"] = (g["hpreact"] * t["bnraw"]).sum(dim=0)  # [H]
    g["bias"] = g["hpreact"].sum(dim=0)
    g["bnraw"] = g["hpreact"] * p.gain  # [N, H]
    g["bnvar_inv"] = (g["bnraw"] * t["bndiff"]).sum(dim=0, keepdim=True)  # [1, H]
    g["bnvar"] = -0.5 * (t["bnvar"] + p.epsilon) ** -1.5 * g["bnvar_inv"]
    g["bndiff2"] = g["bnvar"].expand(n, -1) / n  # [N, H]
    g["bndiff"] = g["bnraw"] * t["bnvar_inv"] + 2 * t["bndiff"] * g["bndiff2"]
    g["bnmean"] = -g["bndiff"].sum(dim=0, keepdim=True)  # [1, H]
    g["hprebn"] = g["bndiff"] + g["bnmean"] / n  # [N, H]
    return g | input_backward(p, windows, t, g["hprebn"])


def input_backward(p: Parameters, windows: Tensor, t: Tensors, dhprebn: Tensor) -> Tensors:
    """From the gradient before batch normalisation [N, H] down to the embedding table."""
    g: Tensors = {}
    g["embcat"] = dhprebn @ p.w1  # [N, context * E]
    g["w1"] = dhprebn.T @ t["embcat"]  # [H, context * E]
    g["emb"] = g["embcat"].view_as(t["emb"])  # [N, context, E]
    rows = g["emb"].flatten(0, 1)  # [N * context, E]
    g["embedding"] = torch.zeros_like(p.embedding).index_add(0, windows.flatten(), rows)
    return g


def fused_cross_entropy(t: Tensors, targets: Tensor) -> Tensor:
    """The logits' gradient in one expression: the probabilities, less 1 at the target, over N."""
    gradient = t["probs"].clone()  # [N, V]
    gradient[torch.arange(len(targets)), targets] -= 1
    return gradient / len(targets)


def fused_batch_norm(p: Parameters, t: Tensors, dhpreact: Tensor) -> Tensor:
    """The gradient before batch normalisation [N, H] in one expression, from the one after it."""
    along = (dhpreact * t["bnraw"]).mean(dim=0)
    return p.gain * t["bnvar_inv"] * (dhpreact - dhpreact.mean(dim=0) - t["bnraw"] * along)


@torch.no_grad()
def gradients_by_hand(model: CharModel, tokens: Tensor, targets: Tensor) -> Tensor:
    """Set every parameter's gradient of the mean loss without autograd; returns that loss.

    Moves the running statistics of batch normalisation too, as a forward in training does.
    """
    p = parameters_of(model)
    assert isinstance(model, MLP)
    windows, real = model.windows(tokens)
    asked = targets[real]
    assert (asked != IGNORED).all()
    t = forward(p, windows, asked)
    dlogits = fused_cross_entropy(t, asked)
    dh = dlogits @ p.w2
    dhpreact = dh * (1 - t["h"] ** 2)
    g = input_backward(p, windows, t, fused_batch_norm(p, t, dhpreact))
    g |= {"w2": dlogits.T @ t["h"], "b2": dlogits.sum(dim=0)}
    g |= {"gain": (dhpreact * t["bnraw"]).sum(dim=0), "bias": dhpreact.sum(dim=0)}
    for name in LEARNED:
        getattr(p, name).grad = g[name]
    _move_statistics(model, t, len(windows))
    return t["loss"]


def _move_statistics(model: MLP, t: Tensors, n: int) -> None:
    norm = model.norms[0]
    assert isinstance(norm, nn.BatchNorm1d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    momentum = norm.momentum or 0.0
    norm.running_mean.lerp_(t["bnmean"][0], momentum)
    norm.running_var.lerp_(t["bnvar"][0] * n / (n - 1), momentum)
    norm.num_batches_tracked += 1
