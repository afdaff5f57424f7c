import json
import math
from pathlib import Path
from typing import Any

import pytest

from serving.errors import BadModel
from serving.manifest import Manifest, StateSpec
from serving.percentiles import QUANTILES
from serving.vocabulary import MAX_ALPHABET
from trainer.data.lines import MAX_CHARACTERS

GOOD: dict[str, Any] = {
    "format_version": 1,
    "name": "names",
    "architecture": "lstm",
    "alphabet": ["a", "b"],
    "max_length": 5,
    "states": [{"name": "h", "input": "i", "output": "o", "dtype": "float32", "shape": [3]}],
    "metrics": {"dev": {"nll": 1.5, "characters": 10, "strings": 2}},
    "recommended": {"temperature": 0.8, "top_p": 0.9},
    "a key of the future": [1],
}


def parse(**changes: Any) -> Manifest:
    return Manifest.parse(json.dumps({**GOOD, **changes}))


def test_a_manifest_survives_writing_and_reading() -> None:
    manifest = parse()
    assert Manifest.parse(manifest.to_json()) == manifest
    assert manifest.states == (StateSpec("h", "i", "o", "float32", (3,)),)
    assert manifest.extra == {"a key of the future": [1]}


def test_unset_recommendations_are_the_defaults_and_unknown_ones_are_ignored() -> None:
    sampling = parse().recommended_sampling
    assert (sampling.temperature, sampling.top_k) == (0.8, 0)


def test_a_part_that_was_not_measured_has_no_metrics() -> None:
    assert parse().part_metrics("test") == {}
    assert parse().part_metrics("dev") == {"nll": 1.5, "characters": 10, "strings": 2}


STATE = GOOD["states"][0]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"format_version": 2}, "format_version is 2"),
        ({"alphabet": ["a", "a"]}, "alphabet"),
        ({"alphabet": ["ab"]}, "alphabet"),
        ({"alphabet": "ab"}, "alphabet"),
        ({"max_length": 0}, "max_length"),
        ({"max_length": True}, "max_length"),
        ({"max_length": 1.5}, "max_length"),
        ({"name": 1}, "name"),
        ({"states": [STATE, STATE]}, "states"),
        ({"states": [{**STATE, "dtype": "complex64"}]}, "states"),
        ({"states": [{**STATE, "shape": [0]}]}, "states"),
        ({"states": [{**STATE, "shape": [True]}]}, "states"),
        ({"states": ["h"]}, "states"),
        ({"metrics": {"dev": {"nll": "1", "characters": 1, "strings": 1}}}, "nll"),
        ({"metrics": {"dev": {"nll": 1, "characters": 2**63, "strings": 1}}}, "characters"),
        ({"metrics": {"dev": 3}}, "dev"),
        ({"metrics": {"dev": {"nll": 10**400, "characters": 1, "strings": 1}}}, "nll"),
        ({"max_length": 2**31}, "max_length"),
        ({"states": [{**STATE, "shape": [2**40]}]}, "states"),
        ({"alphabet": ["a", "\ud800"]}, "alphabet"),
        ({"architecture": "\udfff"}, "architecture"),
        ({"recommended": {"temperature": 10**400}}, "temperature"),
        ({"format_version": True}, "format_version"),
        ({"recommended": {"temperature": math.nan}}, "temperature"),
        ({"recommended": {"top_k": "many"}}, "top_k"),
    ],
)
def test_a_wrong_key_is_refused_by_name(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadModel, match=rf"^manifest: .*{reason}"):
        parse(**changes)


def test_the_largest_manifest_that_a_trainer_writes_is_read() -> None:
    row = [-1234.5678901234567 + i for i in range(QUANTILES)]
    lengths = list(range(MAX_CHARACTERS + 1))
    manifest = parse(
        alphabet=[chr(0x20000 + i) for i in range(MAX_ALPHABET)],
        held_out={"lengths": lengths, "quantiles": [row] * len(lengths)},
    )
    assert Manifest.parse(manifest.to_json()) == manifest


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"training": {"a": [[[[[[[[1]]]]]]]]}}, "training: .*more than 8 levels"),
        ({"dataset": {"name": "x" * 2**16}}, "dataset: has more than 65,536"),
        ({"parity": {"far": math.inf}}, "parity: far: .*nor a finite number"),
        ({"dataset": {"name": "\udcff"}}, "dataset: name: .*surrogate"),
        ({"dataset": {"a path": Path("x")}}, "dataset: a path: .*nor a finite number"),
        ({"extra": {"new": "x" * 2**16}}, "extra: has more than"),
    ],
)
def test_what_would_be_refused_when_it_is_read_cannot_be_made(
    changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(BadModel, match=rf"^manifest: {reason}"):
        Manifest("names", "lstm", ("a", "b"), 5, (), **changes)


@pytest.mark.parametrize("architecture", ["transformer-modern", "by hand", "a", "LSTM 2.1_b+c"])
def test_an_architecture_is_a_short_word(architecture: str) -> None:
    assert parse(architecture=architecture).architecture == architecture


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000])
def test_what_is_no_json_object_is_refused(text: str) -> None:
    with pytest.raises(BadModel, match=r"^manifest: "):
        Manifest.parse(text)


def test_a_missing_key_is_refused_by_name() -> None:
    without = {key: value for key, value in GOOD.items() if key != "alphabet"}
    with pytest.raises(BadModel, match="alphabet"):
        Manifest.parse(json.dumps(without))


@pytest.mark.parametrize(
    ("grows", "found"), [(0, 0), (1, 1), (2, None), (-1, None), ("1", None), (True, None)]
)
def test_an_axis_that_a_state_does_not_have_is_passed_over(grows: Any, found: int | None) -> None:
    manifest = parse(states=[{**STATE, "shape": [2, 3], "grows": grows}])
    assert manifest.states[0].grows == found
