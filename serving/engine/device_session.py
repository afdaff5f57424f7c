"""A step graph whose states stay on a device: bound once, stepped there, never copied to the host.

Every step has the same number of rows, R, however many are wanted. What a GPU multiplies a matrix with
depends on how many rows there are, and so do the last bits of what comes out; so every row gets the bits
that it would get alone, and each array is allocated once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.engine import devices
from serving.engine.arithmetic import arithmetic
from serving.engine.moves import Array, Block, Mover
from serving.engine.session import load
from serving.engine.stepping import States
from serving.errors import BadModel
from serving.placement import Placement

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]


@dataclass(eq=False)
class Slab:
    """R rows of states on the device: a step reads `front` and writes `back`.

    A state that is updated in place is the same in both.
    """

    front: Block
    back: Block
    bindings: dict[Block, Any] = field(default_factory=dict)  # of a step, by what it reads

    def flip(self) -> None:
        """What was written is what is read next."""
        self.front, self.back = self.back, self.front


class DeviceSession:
    """A step graph loaded onto a device from the bytes of its file; a StepSession, and more.

    Args:
        model: the file's bytes.
        placement: the device, and R.

    Raises:
        BadModel: see session.load; or part of the graph would run on the host.
        NoDevice: onnxruntime cannot use the device.
    """

    def __init__(self, model: bytes, placement: Placement) -> None:
        self.placement = placement
        self.rows = placement.rows
        options = devices.device_options()
        self._session, self.manifest = load(model, placement.device, options)
        _check_kernels(devices.left_on_the_host(self._session, placement.device))
        self.arithmetic = arithmetic(placement)
        specs = self.manifest.states
        self.mover = Mover([(spec.shape, spec.dtype) for spec in specs], placement.device)
        self._token = self.mover.value(np.zeros(self.rows, np.int64))
        self._logits = np.zeros((self.rows, len(self.manifest.vocabulary)), np.float32)
        self._own: Slab | None = None

    # --- states that stay on the device

    def slab(self) -> Slab:
        """R rows of zero states."""
        specs, front = self.manifest.states, self.mover.block(self.rows)
        values = zip(specs, front.values, self.mover.block(self.rows).values, strict=True)
        back = (here if spec.in_place else there for spec, here, there in values)
        return Slab(front, Block(tuple(back), self.rows))

    def take(self, slab: Slab, token: Int64) -> Float32:
        """Step R rows of a slab with R tokens; their logits, [R, V], good until the next step."""
        self._token.update_inplace(token)
        if slab.front not in slab.bindings:
            slab.bindings[slab.front] = self._bound(slab.front, slab.back)
        self._session.run_with_iobinding(slab.bindings[slab.front])
        slab.flip()
        return self._logits

    def _bound(self, front: Block, back: Block) -> Any:
        binding, logits = self._session.io_binding(), self._logits
        binding.bind_ortvalue_input("token", self._token)
        address = logits.__array_interface__["data"][0]
        binding.bind_output("logits", "cpu", 0, logits.dtype, logits.shape, address)
        for spec, read, written in zip(
            self.manifest.states, front.values, back.values, strict=True
        ):
            binding.bind_ortvalue_input(spec.input, read)
            binding.bind_ortvalue_output(spec.output, written)
        return binding

    # --- states of the host

    def step(self, token: Int64, states: States) -> tuple[Float32, States]:
        """Advance every row; see StepSession. States go to the device and back."""
        self._own = self._own or self.slab()
        parts = [
            self._step(token[i : i + self.rows], [s[i : i + self.rows] for s in states], self._own)
            for i in range(0, len(token), self.rows)
        ]
        after = zip(*(part[1] for part in parts), strict=True)
        return np.concatenate([part[0] for part in parts]), tuple(map(np.concatenate, after))

    def advance(self, token: Int64, states: States) -> tuple[Float32, States]:
        """As `step`."""
        return self.step(token, states)

    def _step(self, token: Int64, states: Sequence[Array], slab: Slab) -> tuple[Float32, States]:
        """The same for R rows at most."""
        self.mover.fill(slab.front, [padded(state, self.rows) for state in states])
        logits = self.take(slab, padded(token, self.rows))
        count = len(token)
        return logits[:count].copy(), tuple(s[:count] for s in self.mover.read(slab.front))


def padded(array: Array, rows: int) -> Array:
    """With zeros up to so many rows."""
    return np.concatenate([array, np.zeros((rows - len(array), *array.shape[1:]), array.dtype)])


def _check_kernels(operators: list[str]) -> None:
    if operators:
        raise BadModel(
            f"the device has no kernel for {', '.join(operators)}: states would be copied to the host "
            "at every step; publish it anew with makemore export --operators standard"
        )
