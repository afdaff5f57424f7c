"""One step graph in onnxruntime, on the CPU.

Knows nothing of strings or sampling: token ids and states go in, logits and states come out.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.engine import devices
from serving.engine.arithmetic import arithmetic
from serving.engine.binding import Binding, Home, whole
from serving.engine.compiled import address
from serving.engine.stepping import FEWEST, Array, States, initial_states
from serving.errors import BadModel, NoDevice
from serving.manifest import KEY, Manifest
from serving.placement import CPU, Placement

Signature = dict[str, tuple[str, tuple[int, ...]]]  # tensor's name to dtype and shape

TRIED = 4
"""Steps of a single row that are looked at when a model is loaded; the first, of states of 0, shows less."""
MAX_HOMES = 3
MAX_BINDINGS = 512
"""Steps that are kept ready: for so many arrays, and for each of them for so many numbers of rows."""

_ONNX_TYPES = {
    "float32": "tensor(float)",
    "float64": "tensor(double)",
    "int32": "tensor(int32)",
    "int64": "tensor(int64)",
    "bool": "tensor(bool)",
}


class OrtSession:
    """A step graph loaded from the bytes of its file.

    Args:
        model: the file's bytes.
        threads: that a step may use.
        min_rows: fewer rows are stepped as this many; None for 1 if a single row gets the bits that it gets
            among others, else FEWEST.

    Raises:
        BadModel: no onnxruntime session comes of it, its manifest is missing or wrong, or its inputs
            and outputs are not those that the manifest names.
    """

    def __init__(self, model: bytes, threads: int = 1, min_rows: int | None = None) -> None:
        self.arithmetic = arithmetic(Placement(CPU, threads))
        self._session, self.manifest = load(model, CPU, devices.session_options(threads))
        self._outputs = ["logits", *(state.output for state in self.manifest.states)]
        self._inputs = [state.input for state in self.manifest.states]
        self._vocabulary = len(self.manifest.vocabulary)
        self._met: set[int] = set()
        self._homes: list[Home] = []  # the last used is the last
        self._ready: dict[int, tuple[States, Binding]] = {}
        self.min_rows = 1
        self.min_rows = self._fewest() if min_rows is None else min_rows
        self._homes.clear()  # the states that were tried are gone
        self._ready.clear()

    def _fewest(self) -> int:
        """How many rows a step must have; kernels are chosen by it, so that a few steps show it for all."""
        specs = self.manifest.states
        alone, among = (initial_states(specs, rows) for rows in (1, FEWEST))
        for token in np.arange(TRIED) % self._vocabulary:
            logits, alone = self.advance(np.full(1, token), alone)
            wanted, among = self.step(np.full(FEWEST, token), among)
            pairs = zip((logits, *alone), (wanted, *among), strict=True)
            if any(one.tobytes() != every[:1].tobytes() for one, every in pairs):
                return FEWEST
        return 1

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

    def advance(
        self, token: npt.NDArray[np.int64], states: States
    ) -> tuple[npt.NDArray[np.float32], States]:
        """Advance every row, in place where the manifest allows it; see StepSession."""
        known, ready = self._ready.get(id(states), (None, None))
        if ready is None or known is not states:
            if states and len(token) == 1 < self.min_rows:
                return self._alone(token, states)
            if not states or not self._pays(len(token)):
                return self.step(token, states)
            if len(self._ready) >= MAX_BINDINGS:
                self._ready.clear()
            ready = self._binding(len(token), states)
            self._ready[id(states)] = states, ready  # as long as it is here, no other has its id
        return ready.run(token)

    def _pays(self, rows: int) -> bool:
        """Whether a step of so many rows is kept ready, which takes as long as it spares in two or three.

        Where states are in place always, else from the second on.
        """
        is_known = rows in self._met
        self._met.add(rows)
        return is_known or any(spec.in_place for spec in self.manifest.states)

    def _binding(self, rows: int, states: States) -> Binding:
        """A step of so many rows of these states, that is kept ready."""
        homes = [s for spec, s in zip(self.manifest.states, states, strict=True) if spec.in_place]
        place = self._at_home(whole((homes or states)[0]))
        key = (rows, *map(address, states))
        if key not in place.bindings:
            place.bindings[key] = self._bound(rows, states, place)
        return place.bindings[key]

    def _alone(
        self, token: npt.NDArray[np.int64], states: States
    ) -> tuple[npt.NDArray[np.float32], States]:
        """Advance one row, which runs as `min_rows` of the same; see StepSession.advance."""
        for pair, state in zip(self._pair.before, states, strict=True):
            pair[:] = state
        logits, after = self._pair.run(token)
        return logits[:1], tuple(state[:1] for state in after)

    @cached_property
    def _pair(self) -> Binding:
        before = initial_states(self.manifest.states, self.min_rows)
        home = Home(before[0], self._vocabulary)
        return self._bound(self.min_rows, before, home)

    def _bound(self, rows: int, before: States, home: Home) -> Binding:
        """A step of these states; where the one after may not be in place, it is in its partner."""
        specs = self.manifest.states
        after = tuple(
            state if spec.in_place else home.partner(state)
            for spec, state in zip(specs, before, strict=True)
        )
        return Binding(self._session, specs, before, after, home.logits(rows))

    def _at_home(self, array: Array) -> Home:
        """What is kept ready for states that lie in an array; for the few arrays that were last used."""
        found = next((home for home in self._homes if home.has(array)), None)
        if found is None or len(found.bindings) >= MAX_BINDINGS:
            found = Home(array, self._vocabulary)
            self._ready.clear()
        others = [home for home in self._homes if not home.has(array)]
        self._homes = [*others[1 - MAX_HOMES :], found]
        return found


def load(model: bytes, device: str, options: Any) -> tuple[Any, Manifest]:
    """An onnxruntime session of a file's bytes, and what the file says of itself.

    Raises:
        BadModel: no session comes of it, its manifest is missing or wrong, or its inputs and outputs are
            not those that the manifest names.
        NoDevice: see devices.open_graph.
    """
    try:
        session = devices.open_graph(model, device, options)
        properties = session.get_modelmeta().custom_metadata_map
    except NoDevice:
        raise
    except Exception as error:  # the runtime raises many kinds, UnicodeDecodeError among them
        raise BadModel(f"onnxruntime cannot load the graph: {error}") from error
    if KEY not in properties:
        raise BadModel(f"the graph has no metadata property {KEY}")
    manifest = Manifest.parse(properties[KEY])
    check_signature(session, manifest)
    return session, manifest


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
