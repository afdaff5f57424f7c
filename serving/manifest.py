"""What a step graph says of itself: the JSON object in `metadata_props["makemore.manifest"]`.

The trainer writes it and the server reads it. The server never branches on the architecture; all that
it needs is the alphabet, the longest string and the states.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any, Self

from serving import checks
from serving.bounded_json import check_value
from serving.catalogue import check_name
from serving.engine.sampling import SamplingParameters
from serving.errors import BadModel, InvalidArgument, MakemoreError
from serving.percentiles import HeldOut
from serving.quoting import control_character, quoted
from serving.vocabulary import MAX_ALPHABET, Vocabulary

KEY = "makemore.manifest"
FORMAT_VERSION = 1
DTYPES = ("float32", "float64", "int32", "int64", "bool")
PARTS = ("train", "dev", "test")
MAX_TEXT = 2 * 2**20
"""Characters of a manifest's JSON text; the longest table of held-out strings takes about 1.2 million."""
MAX_DEPTH = 16
MAX_NOTES, NOTES_DEPTH = 2**16, 8
"""Bounds on the size and the depth of each object that the server only passes on."""
MAX_LENGTH = 4096
MAX_STATES, MAX_AXES, MAX_AXIS = 1024, 7, 2**26
MAX_STATE_BYTES = 64 * 2**20
"""Of all states of a row; what a server can be made to allocate has to have an end."""
ARCHITECTURE = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+-]{0,63}", re.ASCII)
TENSOR = re.compile(r"[!-~]{1,128}", re.ASCII)


@dataclass(frozen=True)
class StateSpec:
    """One state: its tensors' names in the graph, its dtype, its shape without the batch axis.

    `in_place` says that the output may be written where the input lies. `grows` is the axis of the shape
    along which every step adds an entry: a string's first step, which sees the boundary, sets entry 0, the
    next sets entry 1, and so on; a step changes no other, and none matters before it is set.
    """

    name: str
    input: str
    output: str
    dtype: str
    shape: tuple[int, ...]
    in_place: bool = False
    grows: int | None = None

    @property
    def bytes_per_row(self) -> int:
        """Memory that one string's slice takes."""
        size = {"float32": 4, "float64": 8, "int32": 4, "int64": 8, "bool": 1}[self.dtype]
        return size * math.prod(self.shape)

    @classmethod
    def parse(cls, value: object) -> Self:
        """A state from its JSON object; raises BadModel."""
        match value:
            case {
                "name": str(name),
                "input": str(input_),
                "output": str(output),
                "dtype": str(dtype),
                "shape": list(shape),
                **others,
            } if dtype in DTYPES and all(type(n) is int and n > 0 for n in shape):
                _check_state(name, input_, output, shape)
                is_in_place, grows = others.get("in_place") is True, others.get("grows")
                axis = grows if type(grows) is int and 0 <= grows < len(shape) else None
                return cls(name, input_, output, dtype, tuple(shape), is_in_place, axis)
        raise BadModel(f"manifest: states: {_short(value)} is not a state description")


def _check_state(name: str, input_: str, output: str, shape: list[int]) -> None:
    for text in (name, input_, output):
        if not TENSOR.fullmatch(text):
            raise BadModel(
                f"manifest: states: {quoted(text)} must be 1 to 128 visible characters of ASCII"
            )
    if len(shape) > MAX_AXES or any(n > MAX_AXIS for n in shape):
        raise BadModel(
            f"manifest: states: {quoted(name)}: shape must have at most {MAX_AXES} axes, "
            f"of at most {MAX_AXIS:,} each"
        )


@dataclass(frozen=True)
class Manifest:
    """The manifest of format version 1; the contract names each key's meaning.

    `extra` holds the keys that this version does not know.
    """

    name: str
    architecture: str
    alphabet: tuple[str, ...]
    max_length: int
    states: tuple[StateSpec, ...]
    operator_sets: Mapping[str, int] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    parity: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    dataset: Mapping[str, Any] = field(default_factory=dict)
    recommended: Mapping[str, Any] = field(default_factory=dict)
    held_out: HeldOut | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        try:
            self._check_sizes()
            self.vocabulary, self.recommended_sampling  # noqa: B018 - built to be checked
            for part in PARTS:
                self.part_metrics(part)
            checks.whole("max_length", self.max_length, 1, MAX_LENGTH)
            state_bytes = sum(state.bytes_per_row for state in self.states)
            checks.whole("states: bytes a row", state_bytes, 0, MAX_STATE_BYTES)
        except MakemoreError as error:
            raise BadModel(f"manifest: {error}") from None
        names = [n for state in self.states for n in (state.input, state.output)]
        if len(set(names)) != len(names) or {"token", "logits"} & set(names):
            raise BadModel("manifest: states: a tensor's name stands twice")

    def _check_sizes(self) -> None:
        """Raise InvalidArgument for whatever is too large, too deep or not fit to be shown."""
        check_name(self.name)
        if not ARCHITECTURE.fullmatch(self.architecture):
            raise InvalidArgument(
                "architecture",
                f"{quoted(self.architecture)} must be 1 to 64 of A-Z, a-z, 0-9, ' ', '.', '_', "
                "'+' and '-', the first a letter or digit",
            )
        if len(self.alphabet) > MAX_ALPHABET:
            raise InvalidArgument("alphabet", f"has more than {MAX_ALPHABET:,} characters")
        for character in self.alphabet:
            if isinstance(character, str) and (found := control_character(character)):
                raise InvalidArgument("alphabet", f"holds {found}")
        if len(self.states) > MAX_STATES:
            raise InvalidArgument("states", f"has more than {MAX_STATES:,} states")
        for key in (*_NOTES, "extra"):
            check_value(key, getattr(self, key), MAX_NOTES, NOTES_DEPTH)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The alphabet with its encoding."""
        return Vocabulary(self.alphabet)

    @cached_property
    def recommended_sampling(self) -> SamplingParameters:
        """What an unset field of a request means; keys that are not known are ignored."""
        return SamplingParameters(
            temperature=_number(self.recommended, "temperature", (int, float), 1.0),
            top_k=_number(self.recommended, "top_k", int, 0),
            top_p=_number(self.recommended, "top_p", (int, float), 1.0),
            min_p=_number(self.recommended, "min_p", (int, float), 0.0),
        )

    def part_metrics(self, part: str) -> dict[str, Any]:
        """`nll`, `characters` and `strings` of a part; empty if it was not measured."""
        found = self.metrics.get(part)
        if found is None:
            return {}
        if not isinstance(found, dict):
            raise BadModel(f"metrics: {part}: {_short(found)} is no object")
        counts = {key: _number(found, key, int) for key in ("characters", "strings")}
        for key, count in counts.items():
            checks.whole(f"metrics: {part}: {key}", count, 0, 2**63 - 1)
        nll = _number(found, "nll", (int, float))
        checks.real(f"metrics: {part}: nll", nll, 0, 1e9)
        return {"nll": nll, **counts}

    @classmethod
    def parse(cls, text: str) -> Self:
        """A manifest from its JSON text; raises BadModel with the key that is wrong."""
        if len(text) > MAX_TEXT:
            raise BadModel(f"manifest: has more than {MAX_TEXT:,} characters")
        try:
            value = json.loads(text)
            check_value("", value, MAX_TEXT, MAX_DEPTH)
        except InvalidArgument as error:
            raise BadModel(f"manifest: {error}") from None
        except (ValueError, RecursionError) as error:
            raise BadModel(f"manifest: not JSON: {error}") from None
        if not isinstance(value, dict):
            raise BadModel("manifest: not a JSON object")
        version = value.get("format_version")
        if version != FORMAT_VERSION or isinstance(version, bool):
            raise BadModel(
                f"manifest: format_version is {_short(version)}; "
                f"this server reads version {FORMAT_VERSION}"
            )
        for key, kind in _KINDS.items():
            if key not in value and key not in _REQUIRED:
                continue
            if not isinstance(value.get(key), kind) or isinstance(value.get(key), bool):
                raise BadModel(f"manifest: {key}: {_short(value.get(key))} is no {_JSON[kind]}")
        return cls(
            **{key: value[key] for key in _KINDS if key in value and key not in _LISTS},
            alphabet=tuple(value["alphabet"]),
            states=tuple(StateSpec.parse(state) for state in value["states"]),
            held_out=HeldOut.parse(value["held_out"]) if "held_out" in value else None,
            extra={key: value[key] for key in value if key not in _KNOWN},
        )

    def to_json(self) -> str:
        """The JSON text that `parse` reads."""
        value = asdict(self)
        if self.held_out is None:
            del value["held_out"]
        return json.dumps(value | value.pop("extra"), ensure_ascii=False, allow_nan=False)


def _number(
    values: Mapping[str, Any], key: str, kind: type | tuple[type, ...], default: Any = None
) -> Any:
    found = values.get(key, default)
    if not isinstance(found, kind) or isinstance(found, bool):
        raise BadModel(f"{key}: {_short(found)} is no number that it can be")
    return found


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


_JSON = {str: "string", int: "whole number", list: "list", dict: "object"}
_REQUIRED = {"name": str, "architecture": str, "alphabet": list, "max_length": int, "states": list}
_LISTS = ("alphabet", "states", "held_out")
_KNOWN = {f.name for f in fields(Manifest)} - {"extra"}
_KINDS = _REQUIRED | dict.fromkeys(sorted(_KNOWN - set(_REQUIRED) - {"format_version"}), dict)
_NOTES = sorted(_KNOWN - set(_REQUIRED) - {"format_version", "held_out"})
