"""Steps in onnxruntime whose arrays stay where they are."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.engine import devices
from serving.engine.compiled import address
from serving.engine.stepping import Array, States
from serving.manifest import StateSpec


class Home:
    """Steps that are kept ready for states that lie in an array, or in its partner.

    Args:
        array: that one of the states lies in.
        vocabulary: how many logits a row has.

    Attributes:
        bindings: the steps.
    """

    def __init__(self, array: Array, vocabulary: int) -> None:
        self.bindings: dict[tuple[int, ...], Binding] = {}
        self._array = array
        self._logits = np.empty((0, vocabulary), np.float32)
        self._by_rows: dict[int, Array] = {}
        self._partners: dict[int, Array] = {}  # of each of two, by id, the other

    def logits(self, rows: int) -> Array:
        """Where so many rows get their logits; the same for all steps, since none is used after the next."""
        if len(self._logits) < rows:
            self._logits = np.empty((2 * rows, self._logits.shape[1]), np.float32)
            self._by_rows.clear()
        return self._by_rows.setdefault(rows, self._logits[:rows])

    def partner(self, before: Array) -> Array:
        """Where the state after another goes: to and fro between two arrays, or the beginnings of two."""
        base = whole(before)
        if id(base) not in self._partners:
            other = np.empty_like(base)
            self._partners[id(base)], self._partners[id(other)] = other, base
        other = self._partners[id(base)]
        return other if before is base else other[: len(before)]

    def has(self, array: Array) -> bool:
        """Whether an array is that of the home, or a partner here."""
        return array is self._array or id(array) in self._partners


def whole(array: Array) -> Array:
    """The array that another is the beginning of."""
    base = array.base
    is_beginning = isinstance(base, np.ndarray) and (
        base.shape[1:] == array.shape[1:] and address(base) == address(array)
    )
    return base if is_beginning else array  # type: ignore[return-value]


class Binding:
    """A step whose arrays stay where they are: what onnxruntime calls an IO binding.

    Args:
        session: of onnxruntime.
        specs: of the states.
        before: the states that are read.
        after: those that are written; the same arrays where they are in place.
        logits: gets the logits, [B, V].
    """

    def __init__(
        self,
        session: Any,
        specs: Sequence[StateSpec],
        before: States,
        after: States,
        logits: Array,
    ) -> None:
        self._token = np.zeros(len(logits), np.int64)
        self._logits = logits
        self.before, self._after = before, after  # onnxruntime itself holds addresses alone
        binding = session.io_binding()
        _bind(binding.bind_input, "token", self._token)
        _bind(binding.bind_output, "logits", logits)
        for spec, read, written in zip(specs, before, after, strict=True):
            _bind(binding.bind_input, spec.input, read)
            _bind(binding.bind_output, spec.output, written)
        self._run = devices.runner(session, binding)

    def run(self, token: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float32], States]:
        """Take the step."""
        self._token[:] = token
        self._run()
        return self._logits, self._after


def _bind(bind: Any, name: str, array: Array) -> None:
    assert array.flags.c_contiguous
    bind(name, "cpu", 0, array.dtype, array.shape, address(array))
