"""From a GenerateRequest to the engine's Draw, and from what it makes to messages."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from makemore.v1 import generation_service_pb2 as pb
from serving import checks
from serving.api import constraints
from serving.api.bounding import Bounding
from serving.api.caller import caller
from serving.api.loop_time import LoopTime
from serving.api.request import encode_prefix, parameters_of
from serving.engine.job import Draw, FinishReason, Sample, Shortfall, Usage
from serving.repository import Model

MARGIN_SHARE, MARGIN = 0.1, 0.1
"""How long before the deadline what there is becomes the answer: this part of the time until then, and
at least so many seconds, but no more than half of it."""

SAMPLES = 64
"""Samples whose messages are built in one step."""
BUILT = 5
"""Microseconds that it takes to build a sample's message, about."""

FINISH_REASONS = {
    FinishReason.END: pb.FINISH_REASON_END,
    FinishReason.MAX_LENGTH: pb.FINISH_REASON_MAX_LENGTH,
}
SHORTFALL_REASONS = {
    None: pb.SHORTFALL_REASON_UNSPECIFIED,
    Shortfall.SPACE_EXHAUSTED: pb.SHORTFALL_REASON_SPACE_EXHAUSTED,
    Shortfall.ATTEMPTS: pb.SHORTFALL_REASON_ATTEMPTS,
    Shortfall.DEADLINE: pb.SHORTFALL_REASON_DEADLINE,
}


@dataclass(frozen=True)
class Drawing:
    """A request understood: the job, what was asked of its strings, and what that comes to."""

    job: Draw
    asked: pb.Constraints
    resolved: constraints.Resolved

    def settings(self) -> pb.Settings:
        """Those that make the same strings again."""
        parameters = self.job.parameters
        sampling = pb.Sampling(
            temperature=parameters.temperature,
            top_k=parameters.top_k,
            top_p=parameters.top_p,
            min_p=parameters.min_p,
            seed=parameters.seed,
        )
        return pb.Settings(
            sampling=sampling, constraints=constraints.settings_of(self.asked, self.resolved)
        )


async def drawing_of(
    request: pb.GenerateRequest,
    model: Model,
    deadline: float | None,
    most: int,
    bounding: Bounding,
    loop_time: LoopTime,
) -> Drawing:
    """The job that a request asks for.

    Args:
        request: as it came.
        model: the one that it means.
        deadline: the instant of time.monotonic() at which the caller leaves; None for never.
        most: strings that may be asked for.
        bounding: where constraints are worked out.
        loop_time: in which their lists are checked.

    Raises:
        InvalidArgument: a field is out of its range.
        FailedPrecondition: the model's files cannot tell what was asked for.
        Exhausted, DeadlineExceeded: see Bounding.
    """
    manifest = model.manifest
    checks.whole("n", request.n, 0, most)
    prefix = encode_prefix(request.prefix, manifest)
    parameters = parameters_of(request.sampling, manifest.recommended_sampling)
    resolved = await constraints.resolve(
        request.constraints, manifest, model.known, tuple(prefix), deadline, bounding, loop_time
    )
    job = Draw(
        prefix,
        request.n or 1,
        parameters,
        resolved.max_length,
        bounds=None if resolved.is_exact else resolved.bounds,
        selection=resolved.selection,
        deadline=deadline,
        caller=caller(),
        partial_at=partial_at(deadline) if request.allow_partial else None,
    )
    return Drawing(job, request.constraints, resolved)


def partial_at(deadline: float | None) -> float | None:
    """When to stop for an answer to arrive before the deadline."""
    if deadline is None:
        return None
    remaining = deadline - time.monotonic()
    return deadline - min(max(MARGIN_SHARE * remaining, MARGIN), remaining / 2)


def sample_parts(
    samples: Sequence[Sample],
    response: type[pb.GenerateResponse] | type[pb.StreamGenerateResponse] = pb.GenerateResponse,
) -> Iterator[bytes]:
    """Samples, as parts of a serialized response."""
    for begin in range(0, len(samples), SAMPLES):
        part = samples[begin : begin + SAMPLES]
        yield response(samples=map(sample_message, part)).SerializeToString()


def sample_message(sample: Sample) -> pb.Sample:
    """A sample as callers get it."""
    return pb.Sample(
        text=sample.text,
        index=sample.index,
        finish_reason=FINISH_REASONS[sample.finish_reason],
        log_prob=sample.log_prob,
        sampling_log_prob=sample.sampling_log_prob,
        log_weight=sample.log_weight,
        attempts=sample.attempts,
    )


def usage_message(job: Draw, usage: Usage, arrived: float) -> pb.Usage:
    """What a job took, with its times; `arrived` is the instant of time.monotonic()."""
    message = pb.Usage(**vars(usage))
    started = job.started_at or time.monotonic()
    message.queue_time.FromNanoseconds(int((started - arrived) * 1e9))
    message.compute_time.FromNanoseconds(int((time.monotonic() - started) * 1e9))
    return message
