"""A Transformer's step as an ONNX graph of few large operators, for speed.

Traced operator by operator, a step spends its time on copying the cache and on starting small kernels.
onnxruntime has an operator for attention with a cache (GroupQueryAttention), which reads and writes no more
of the cache than the string is long, in place if it may, and one for a residual sum with the normalisation
after it: for RMS norms, since its twin for layer norms goes through a row one number after the other, each
waiting for the last, which took a quarter of a step.
The export's gate compares the graph with PyTorch like any other.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from trainer.models.rms_norms import with_rms_norms
from trainer.models.transformer import Block, FeedForward, Transformer
from trainer.models.transformer_modern import RotaryAttention, SwiGLU, rotary_angles

CONTRIB = "com.microsoft"
OPSETS = {"": 20, CONTRIB: 1}


class Builder:
    """Nodes and constants of a graph; a value goes by its name."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: Tensor | npt.NDArray[np.generic]) -> str:
        """A tensor of the model."""
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else value
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def add(
        self,
        operator: str,
        inputs: list[str],
        outputs: list[str] | None = None,
        domain: str = "",
        **attributes: Any,
    ) -> str:
        """A node; its first output."""
        outputs = outputs or [f"v{len(self.nodes)}"]
        node = helper.make_node(operator, inputs, outputs, domain=domain, **attributes)
        self.nodes.append(node)
        return outputs[0]

    def linear(self, x: str, layer: nn.Linear, outputs: list[str] | None = None) -> str:
        """`layer` of x [B, in]: [B, out]."""
        weight, *bias = map(self.constant, layer.parameters())
        return self.add("Gemm", [x, weight, *bias], outputs, transB=1)

    def norm(self, x: str, norm: nn.RMSNorm) -> str:
        """`norm` of x [B, E]; as that of x + x, where squares are four times as large, epsilon too."""
        return self.sum_and_norm(x, x, norm, scale=4)[1]

    def sum_and_norm(
        self, x: str, branch: str, norm: nn.RMSNorm, scale: float = 1
    ) -> tuple[str, str]:
        """X + branch, and `norm` of it: [B, E] each."""
        total, normed = f"s{len(self.nodes)}", f"n{len(self.nodes)}"
        inputs = [branch, x, self.constant(norm.weight)]
        outputs = [normed, "", "", total]
        operator, epsilon = "SkipSimplifiedLayerNormalization", scale * _epsilon(norm)
        self.add(operator, inputs, outputs, CONTRIB, epsilon=epsilon)
        return total, normed


def step_graph(model: Transformer) -> onnx.ModelProto:
    """The step graph of a Transformer; its caches may be updated in place."""
    model, build = with_rms_norms(model), Builder()
    position = build.add("Squeeze", ["position_in", build.constant(np.array([1]))])  # [B]
    build.add("Add", ["position_in", build.constant(np.array([[1]]))], ["position_out"])
    places = [
        build.add("Cast", [position], to=TensorProto.INT32),
        build.constant(np.array(model.length, np.int32)),
    ]
    x = build.add("Gather", [build.constant(model.embedding.weight), "token"])  # [B, E]
    blocks: list[Any] = list(model.blocks)
    norms: list[Any] = [*(block.before_attention for block in blocks), model.norm]
    if isinstance(model.positions, nn.Embedding):
        table = build.constant(model.positions.weight)
        x, normed = build.sum_and_norm(x, build.add("Gather", [table, position]), norms[0])
    else:
        normed = build.norm(x, norms[0])
    for layer, (block, after) in enumerate(zip(blocks, norms[1:], strict=True)):
        branch = _attention(build, normed, block, layer, places, model.length)
        x, normed = build.sum_and_norm(x, branch, block.before_feed_forward)
        x, normed = build.sum_and_norm(x, _feed_forward(build, normed, block.feed_forward), after)
    build.linear(normed, model.head, ["logits"])
    return _model(build, model)


def _attention(
    build: Builder, x: str, block: Block, layer: int, places: list[str], length: int
) -> str:
    """Attention of one layer to its cache and x [B, E]: [B, E]."""
    attention, heads = block.attention, block.attention.config.heads
    width = attention.config.embedding
    rotation, is_rotary = [], isinstance(attention, RotaryAttention)
    if is_rotary:
        angles = rotary_angles(torch.arange(length), width // heads)  # [T, D/2]
        rotation = [build.constant(angles.cos()), build.constant(angles.sin())]
    qkv = build.linear(x, attention.qkv)  # [B, 3E]
    qkv = build.add("Reshape", [qkv, build.constant(np.array([-1, 1, 3 * width]))])  # [B, 1, 3E]
    names = [f"{kind}_{layer}" for kind in ("keys", "values")]
    mixed = build.add(
        "GroupQueryAttention",
        [qkv, "", "", *(f"{name}_in" for name in names), *places, *rotation],
        [f"mixed_{layer}", *(f"{name}_out" for name in names)],
        CONTRIB,
        num_heads=heads,
        kv_num_heads=heads,
        do_rotary=int(is_rotary),
    )
    flat = build.add("Reshape", [mixed, build.constant(np.array([-1, width]))])  # [B, E]
    return build.linear(flat, attention.out)


def _feed_forward(build: Builder, x: str, network: nn.Module) -> str:
    """The feed-forward network of x [B, E]: [B, E]."""
    if isinstance(network, SwiGLU):
        gate = build.add("QuickGelu", [build.linear(x, network.gate)], None, CONTRIB, alpha=1.0)
        return build.linear(build.add("Mul", [gate, build.linear(x, network.enter)]), network.leave)
    assert isinstance(network, FeedForward)
    inner = build.add("Gelu", [build.linear(x, network.enter)], approximate="tanh")
    return build.linear(inner, network.leave)


def _epsilon(norm: nn.RMSNorm) -> float:
    """What is added to the mean square: the type's own unless one is given."""
    return torch.finfo(torch.float32).eps if norm.eps is None else norm.eps


def _model(build: Builder, model: Transformer) -> onnx.ModelProto:
    def value(name: str, dtype: str, *shape: int) -> onnx.ValueInfoProto:
        kind = {"int64": TensorProto.INT64, "float32": TensorProto.FLOAT}[dtype]
        return helper.make_tensor_value_info(name, kind, ["batch", *shape])

    states = model.state_specs()
    graph = helper.make_graph(
        build.nodes,
        "step",
        [value("token", "int64"), *(value(s.input, s.dtype, *s.shape) for s in states)],
        [
            value("logits", "float32", model.head.out_features),
            *(value(s.output, s.dtype, *s.shape) for s in states),
        ],
        build.constants,
    )
    opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10, producer_name="makemore")
