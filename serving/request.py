"""From a GenerateRequest to a Job: every check of what a caller sent, before any work is done.

Knows the messages, but neither gRPC nor the engine.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from makemore.v1 import generation_service_pb2 as pb
from serving import checks
from serving.errors import InvalidArgument
from serving.job import Job
from serving.manifest import Manifest
from serving.sampling import SamplingParameters
from serving.vocabulary import normalise

MAX_N = 1000


@contextmanager
def at(path: str) -> Iterator[None]:
    """Name the field of an InvalidArgument as the caller knows it: `{}` stands for its own name."""
    try:
        yield
    except InvalidArgument as error:
        raise InvalidArgument(path.format(error.field), error.description) from None


def job_of(request: pb.GenerateRequest, manifest: Manifest, deadline: float | None) -> Job:
    """The job that a request asks for.

    Args:
        request: as it came.
        manifest: of the model that it means.
        deadline: the instant of time.monotonic() at which the caller leaves; None for never.

    Raises:
        InvalidArgument: a field is out of its range.
    """
    checks.whole("n", request.n, 0, MAX_N)
    prefix = encode_prefix(request.prefix, manifest)
    return Job(
        prefix=prefix,
        n=request.n or 1,
        parameters=parameters_of(request.sampling, manifest.recommended_sampling),
        max_length=max_length_of(request.constraints, len(prefix), manifest.max_length),
        deadline=deadline,
    )


def encode_prefix(text: str, manifest: Manifest) -> list[int]:
    """Token ids of a prefix."""
    prefix = normalise(text)
    if len(prefix) > manifest.max_length:
        raise InvalidArgument(
            "prefix",
            f"has {len(prefix):,} characters; the model makes strings of at most "
            f"{manifest.max_length}",
        )
    with at("prefix"):
        return manifest.vocabulary.encode(prefix)


def parameters_of(asked: pb.Sampling, recommended: SamplingParameters) -> SamplingParameters:
    """What is set, else what the model recommends; the seed is random unless set."""
    with at("sampling.{}"):
        return SamplingParameters(
            temperature=(
                asked.temperature if asked.HasField("temperature") else recommended.temperature
            ),
            top_k=asked.top_k if asked.HasField("top_k") else recommended.top_k,
            seed=asked.seed if asked.HasField("seed") else secrets.randbits(64),
        )


def max_length_of(asked: pb.Constraints, prefix: int, longest: int) -> int:
    """The longest string, prefix included."""
    if not asked.HasField("max_length"):
        return longest
    with at("constraints.{}"):
        checks.whole("max_length", asked.max_length, max(prefix, 1), longest)
    return asked.max_length
