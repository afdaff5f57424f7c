"""One step graph in onnxruntime: the only file that knows the runtime.

Knows nothing of strings or sampling: token ids and states go in, logits and states come out.
"""

import os
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

# onnxruntime reports home from its import on (since 1.29) unless this is set before.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

from serving.errors import BadModel
from serving.manifest import KEY, Manifest, StateSpec

Array = npt.NDArray[Any]
States = tuple[Array, ...]
Signature = dict[str, tuple[str, tuple[int, ...]]]  # tensor's name to dtype and shape

MIN_ROWS = 2
"""Kernels may round differently for a single row (`RNN` does), so no step ever has just one."""

_ONNX_TYPES = {
    "float32": "tensor(float)",
    "float64": "tensor(double)",
    "int32": "tensor(int32)",
    "int64": "tensor(int64)",
    "bool": "tensor(bool)",
}


class StepSession(Protocol):
    """What the engine needs of a model; `serving.testing` has one without onnxruntime."""

    manifest: Manifest

    def step(
        self, token: npt.NDArray[np.int64], states: States
    ) -> tuple[npt.NDArray[np.float32], States]:
        """Advance every row by one character.

        Args:
            token: the character just seen, [B]; B at least 1.
            states: one array a state in the manifest's order, [B, ...] each; not changed.

        Returns:
            Raw logits of the next character [B, V], and the states after it.
        """


def initial_states(specs: Sequence[StateSpec], rows: int) -> States:
    """States before the first character: zeros, [rows, ...] each."""
    return tuple(np.zeros((rows, *spec.shape), spec.dtype) for spec in specs)


def session_options(threads: int) -> Any:
    """Options for many small steps: few threads, none of them spinning between steps."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # a pattern is kept for each batch size ever seen
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


class OrtSession:
    """A step graph loaded from the bytes of its file.

    Args:
        model: the file's bytes.
        threads: that a step may use.
        min_rows: fewer rows are stepped as this many.

    Raises:
        BadModel: no onnxruntime session comes of it, its manifest is missing or wrong, or its inputs
            and outputs are not those that the manifest names.
    """

    def __init__(self, model: bytes, threads: int = 1, min_rows: int = MIN_ROWS) -> None:
        self.min_rows = min_rows
        try:
            self._session = onnxruntime.InferenceSession(
                model, session_options(threads), providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the runtime raises many kinds, UnicodeDecodeError among them
            raise BadModel(f"onnxruntime cannot load the graph: {error}") from error
        properties = self._session.get_modelmeta().custom_metadata_map
        if KEY not in properties:
            raise BadModel(f"the graph has no metadata property {KEY}")
        self.manifest = Manifest.parse(properties[KEY])
        check_signature(self._session, self.manifest)
        self._outputs = ["logits", *(state.output for state in self.manifest.states)]
        self._inputs = [state.input for state in self.manifest.states]

    def step(
        self, token: npt.NDArray[np.int64], states: States
    ) -> tuple[npt.NDArray[np.float32], States]:
        """Advance every row; see StepSession."""
        rows = len(token)
        if rows < self.min_rows:
            token, *states_ = (np.repeat(a, self.min_rows, axis=0) for a in (token, *states))
            logits, after = self.step(token, tuple(states_))
            return logits[:rows], tuple(state[:rows] for state in after)
        feed = dict(zip(self._inputs, states, strict=True))
        feed["token"] = token
        logits, *after_ = self._session.run(self._outputs, feed)
        return logits, tuple(after_)


def check_signature(session: Any, manifest: Manifest) -> None:
    """Raise BadModel unless the graph's inputs and outputs are exactly the contract's."""
    states = manifest.states
    expected_inputs: Signature = {"token": ("int64", ())}
    expected_inputs |= {s.input: (s.dtype, s.shape) for s in states}
    expected_outputs: Signature = {"logits": ("float32", (len(manifest.vocabulary),))}
    expected_outputs |= {s.output: (s.dtype, s.shape) for s in states}
    _compare("input", session.get_inputs(), expected_inputs)
    _compare("output", session.get_outputs(), expected_outputs)


def _compare(kind: str, found: Sequence[Any], expected: Signature) -> None:
    names = {argument.name for argument in found}
    if names != set(expected):
        raise BadModel(f"the graph's {kind}s are {sorted(names)}, not {sorted(expected)}")
    for argument in found:
        dtype, shape = expected[argument.name]
        batch, *rest = argument.shape or [0]
        if argument.type != _ONNX_TYPES[dtype] or tuple(rest) != shape or isinstance(batch, int):
            raise BadModel(
                f"{kind} '{argument.name}' is {argument.type} {argument.shape}, "
                f"not {_ONNX_TYPES[dtype]} ['batch', {', '.join(map(str, shape))}]"
            )
