"""Tracing a model's step into one self-contained ONNX graph."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

import onnx
import torch

from serving.manifest import KEY, Manifest
from trainer.models.base import CharModel, States

OPSET = 20
EXAMPLE_ROWS = 3  # neither 0 nor 1, which the tracer would take for constants


class _Step(torch.nn.Module):
    """`step` with its states as separate arguments and results, as the graph has them."""

    def __init__(self, model: CharModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, token: torch.Tensor, *states: torch.Tensor) -> tuple[torch.Tensor, ...]:
        logits, after = self.model.step(token, states)
        return (logits, *after)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep the exporter's progress and its own deprecation warnings from the person's terminal."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def trace(model: CharModel) -> onnx.ModelProto:
    """The step graph of a model, without a manifest.

    `batch` is the only dynamic axis. Names, types and shapes are those of the model's state_specs.
    """
    made = model.step_graph()
    if made is not None:
        return made
    specs = model.state_specs()
    states: States = model.initial_states(EXAMPLE_ROWS)
    batch = {0: torch.export.Dim("batch", min=1, max=2**20)}
    with _quietly(), torch.no_grad():
        program = torch.onnx.export(
            _Step(model).eval(),
            (torch.zeros(EXAMPLE_ROWS, dtype=torch.int64), *states),
            input_names=["token", *(spec.input for spec in specs)],
            output_names=["logits", *(spec.output for spec in specs)],
            dynamic_shapes=(batch, tuple(batch for _ in specs)) if specs else (batch,),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    return _bare(program.model_proto)


def _bare(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Drop what the tracer notes about its source: paths and stack traces of this machine."""
    graph.ClearField("metadata_props")
    graph.graph.ClearField("metadata_props")
    graph.ClearField("doc_string")
    inside = graph.graph
    for part in (
        *inside.node,
        *inside.initializer,
        *inside.value_info,
        *inside.input,
        *inside.output,
    ):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    graph.producer_name, graph.producer_version = "makemore", ""
    return graph


def with_manifest(graph: onnx.ModelProto, manifest: Manifest) -> bytes:
    """The file's bytes, its manifest inside; the graph is checked."""
    onnx.helper.set_model_props(graph, {KEY: manifest.to_json()})
    onnx.checker.check_model(graph, full_check=True)
    return graph.SerializeToString(deterministic=True)
