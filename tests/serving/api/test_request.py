import asyncio
import math
from pathlib import Path
from typing import Any

import pytest

from makemore.v1.generation_service_pb2 import (
    NOVELTY_NOT_IN_TRAINING,
    Constraints,
    GenerateRequest,
    Sampling,
)
from serving.api.bounding import Bounding
from serving.api.drawing import drawing_of
from serving.api.loop_time import LoopTime
from serving.constraints.taken import Known
from serving.engine.job import Draw
from serving.engine.sampling import SamplingParameters
from serving.errors import FailedPrecondition, InvalidArgument
from serving.manifest import Manifest
from serving.repository import Model

MANIFEST = Manifest("m", "a", ("a", "b", "é"), 8, (), recommended={"temperature": 0.5, "top_k": 2})


class Session:
    """As much of a session as a request needs."""

    manifest = MANIFEST


def job_of(request: GenerateRequest, known: Known | None = None) -> Draw:
    model = Model(Path(), "m", 1, "", Session(), known)  # type: ignore[arg-type]
    return asyncio.run(drawing_of(request, model, None, 1000, Bounding(), LoopTime())).job


def test_what_is_unset_is_what_the_model_recommends() -> None:
    job = job_of(GenerateRequest())
    assert (job.prefix, job.n, job.max_length, job.deadline) == ([], 1, 8, None)
    assert (job.parameters.temperature, job.parameters.top_k) == (0.5, 2)


def test_zero_is_not_unset() -> None:
    asked = Sampling(temperature=0, top_k=0, seed=0)
    job = job_of(GenerateRequest(sampling=asked))
    assert job.parameters == SamplingParameters(0, 0, 0)


def test_an_unset_seed_is_random() -> None:
    assert len({job_of(GenerateRequest()).parameters.seed for _ in range(9)}) == 9


def test_a_prefix_is_composed_before_it_is_encoded() -> None:
    assert job_of(GenerateRequest(prefix="be\u0301")).prefix == [2, 3]


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"n": -1}, "n"),
        ({"n": 1001}, "n"),
        ({"n": 2**31 - 1}, "n"),
        ({"prefix": "abx"}, "prefix"),
        ({"prefix": "a\0"}, "prefix"),
        ({"prefix": "a" * 9}, "prefix"),
        ({"sampling": Sampling(temperature=math.nan)}, "sampling.temperature"),
        ({"sampling": Sampling(temperature=math.inf)}, "sampling.temperature"),
        ({"sampling": Sampling(temperature=-1)}, "sampling.temperature"),
        ({"sampling": Sampling(top_k=-1)}, "sampling.top_k"),
        ({"constraints": Constraints(max_length=0)}, "constraints.max_length"),
        ({"constraints": Constraints(max_length=9)}, "constraints.max_length"),
        ({"prefix": "aaa", "constraints": Constraints(max_length=2)}, "constraints.max_length"),
        ({"sampling": Sampling(top_p=0)}, "sampling.top_p"),
        ({"sampling": Sampling(top_p=1.1)}, "sampling.top_p"),
        ({"sampling": Sampling(min_p=math.nan)}, "sampling.min_p"),
        ({"sampling": Sampling(min_p=-0.1)}, "sampling.min_p"),
        ({"constraints": Constraints(min_length=9)}, "constraints.min_length"),
        ({"constraints": Constraints(min_length=4, max_length=3)}, "constraints.min_length"),
        ({"constraints": Constraints(pattern="(")}, "constraints.pattern"),
        ({"constraints": Constraints(pattern="a" * 257)}, "constraints.pattern"),
        ({"constraints": Constraints(pattern="x+")}, "constraints.pattern"),
        ({"constraints": Constraints(pattern="a{9}")}, "constraints.pattern"),
        ({"prefix": "b", "constraints": Constraints(pattern="a.*")}, "constraints.pattern"),
        ({"constraints": Constraints(pattern=r"(?=a)a")}, "constraints.pattern"),
        ({"constraints": Constraints(pattern="(a|b)*a(a|b){20}")}, "constraints.pattern"),
        ({"constraints": Constraints(suffix="x")}, "constraints.suffix"),
        ({"constraints": Constraints(suffix="a" * 65)}, "constraints.suffix"),
        ({"constraints": Constraints(contains="a" * 9)}, "constraints.contains"),
        (
            {"prefix": "b", "constraints": Constraints(allowed_characters="a")},
            "constraints.allowed_characters",
        ),
        (
            {"prefix": "ab", "constraints": Constraints(forbidden_substrings=["b"])},
            "constraints.forbidden_substrings",
        ),
        (
            {"constraints": Constraints(forbidden_substrings=[""])},
            "constraints.forbidden_substrings[0]",
        ),
        (
            {"constraints": Constraints(forbidden_substrings=["a"] * 1001)},
            "constraints.forbidden_substrings",
        ),
        ({"constraints": Constraints(exclude=["a", "a" * 129])}, "constraints.exclude[1]"),
        ({"constraints": Constraints(exclude=["a"] * 10_001)}, "constraints.exclude"),
        (
            {"constraints": Constraints(max_attempts_per_sample=0)},
            "constraints.max_attempts_per_sample",
        ),
        ({"constraints": Constraints(novelty=7)}, "constraints.novelty"),  # type: ignore[arg-type]
        ({"constraints": Constraints(length_policy=7)}, "constraints.length_policy"),  # type: ignore[arg-type]
    ],
)
def test_a_field_out_of_range_is_named_by_its_path(request_: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        job_of(GenerateRequest(**request_))
    assert caught.value.field == field


def test_the_limits_themselves_are_allowed() -> None:
    asked = GenerateRequest(
        prefix="a" * 8,
        n=1000,
        sampling=Sampling(temperature=100, top_k=2**31 - 1, seed=2**64 - 1),
        constraints=Constraints(max_length=8),
    )
    assert job_of(asked).n == 1000


def test_constraints_that_forbid_nothing_cost_nothing() -> None:
    job = job_of(GenerateRequest(constraints=Constraints(max_length=8, exact=True)))
    assert job.bounds is None
    assert job.selection.is_free


def test_rules_are_masks_unless_they_are_to_be_exact() -> None:
    masked = job_of(GenerateRequest(constraints=Constraints(pattern="a+")))
    assert masked.bounds is not None
    assert masked.selection.accepted is None
    exact = job_of(GenerateRequest(constraints=Constraints(pattern="a+", exact=True)))
    assert exact.bounds is None
    assert exact.selection.accepted is not None


def test_novelty_needs_the_list_of_the_training_part() -> None:
    asked = GenerateRequest(constraints=Constraints(novelty=NOVELTY_NOT_IN_TRAINING))
    with pytest.raises(FailedPrecondition, match=r"known\.u64"):
        job_of(asked)
    assert job_of(asked, Known.parse(b"")).selection.known is not None
