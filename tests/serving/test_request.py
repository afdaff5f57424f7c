import math
from typing import Any

import pytest

from makemore.v1.generation_service_pb2 import Constraints, GenerateRequest, Sampling
from serving.errors import InvalidArgument
from serving.manifest import Manifest
from serving.request import job_of
from serving.sampling import SamplingParameters

MANIFEST = Manifest("m", "a", ("a", "b", "é"), 8, (), recommended={"temperature": 0.5, "top_k": 2})


def test_what_is_unset_is_what_the_model_recommends() -> None:
    job = job_of(GenerateRequest(), MANIFEST, None)
    assert (job.prefix, job.n, job.max_length, job.deadline) == ([], 1, 8, None)
    assert (job.parameters.temperature, job.parameters.top_k) == (0.5, 2)


def test_zero_is_not_unset() -> None:
    asked = Sampling(temperature=0, top_k=0, seed=0)
    job = job_of(GenerateRequest(sampling=asked), MANIFEST, None)
    assert job.parameters == SamplingParameters(0, 0, 0)


def test_an_unset_seed_is_random() -> None:
    assert len({job_of(GenerateRequest(), MANIFEST, None).parameters.seed for _ in range(9)}) == 9


def test_a_prefix_is_composed_before_it_is_encoded() -> None:
    assert job_of(GenerateRequest(prefix="be\u0301"), MANIFEST, None).prefix == [2, 3]


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
    ],
)
def test_a_field_out_of_range_is_named_by_its_path(request_: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        job_of(GenerateRequest(**request_), MANIFEST, None)
    assert caught.value.field == field


def test_the_limits_themselves_are_allowed() -> None:
    asked = GenerateRequest(
        prefix="a" * 8,
        n=1000,
        sampling=Sampling(temperature=100, top_k=2**31 - 1, seed=2**64 - 1),
        constraints=Constraints(max_length=8),
    )
    assert job_of(asked, MANIFEST, None).n == 1000
