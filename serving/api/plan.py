"""What is drawn ahead for a request, and how its answers are written before there is a call."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import NamedTuple

from google.protobuf.duration_pb2 import Duration

from makemore.v1 import generation_service_pb2 as pb
from serving.api.drawing import Drawing, sample_message
from serving.engine.job import LIGHT, Draw, FinishReason, Sample, Selection
from serving.engine.sampling import random_seed
from serving.repository import Model
from serving.vocabulary import is_normalized


class Answer(NamedTuple):
    """A GenerateResponse as bytes, and the characters that were drawn for it."""

    content: bytes
    characters: int


@dataclass(frozen=True)
class Plan:
    """So many strings at most at a time, each of a seed of its own, and their answers but for these."""

    job: Draw
    normalized_only: bool
    most: int
    response: pb.GenerateResponse

    @classmethod
    def of(cls, drawing: Drawing, model: Model, most: int) -> "Plan":
        """That of a request which comes again and again."""
        response = pb.GenerateResponse(
            model=model.full_name,
            model_digest=model.digest,
            settings=drawing.settings(),
            usage=pb.Usage(samples=1, queue_time=Duration(), compute_time=Duration()),
        )
        selection = drawing.job.selection
        job = replace(
            drawing.job, selection=Selection(), deadline=None, partial_at=None, result=Future()
        )
        return cls(job, selection.normalized_only, min(most, LIGHT // job.characters), response)

    def draw(self, count: int) -> Draw:
        """A job of so many strings."""
        seeds = tuple(random_seed() for _ in range(count))
        return replace(self.job, n=count, seeds=seeds, result=Future())

    def answers(self, seeds: Sequence[int], samples: Sequence[Sample]) -> Iterator[Answer]:
        """What calls get; a seed whose string a call would draw again is passed over."""
        for seed, sample in zip(seeds, samples, strict=True):
            if not self.normalized_only or is_normalized(sample.text):
                yield self.answer(seed, sample)

    def answer(self, seed: int, sample: Sample) -> Answer:
        """What one call gets."""
        has_end = sample.finish_reason is FinishReason.END
        characters = len(sample.text) - len(self.job.prefix) + has_end
        message = sample_message(sample)
        message.index = 0
        response = self.response
        response.ClearField("samples")
        response.samples.append(message)
        response.seed = response.settings.sampling.seed = seed
        response.usage.characters = characters
        return Answer(response.SerializeToString(), characters)
