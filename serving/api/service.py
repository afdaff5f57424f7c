"""The methods of GenerationService: messages in, messages out; all work is done elsewhere."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, contextmanager, suppress
from functools import cached_property
from typing import Any, TypeVar

import grpc
import numpy as np

from makemore.v1 import generation_service_pb2 as pb
from makemore.v1 import generation_service_pb2_grpc as generation_grpc
from serving import checks
from serving.api.ahead import Ahead
from serving.api.bounding import Bounding
from serving.api.caller import caller
from serving.api.drawing import (
    SHORTFALL_REASONS,
    Drawing,
    drawing_of,
    partial_at,
    sample_message,
    usage_message,
)
from serving.api.mailbox import Mailbox
from serving.api.reading import distribution_message, encoded, score_message
from serving.api.request import At, encode_prefix
from serving.api.searching import Searches
from serving.api.streaming import stream
from serving.api.top import listed, search_of
from serving.engine.job import Read, Reading
from serving.engine.protocols import AnyEngine
from serving.engine.top import TopSearch
from serving.errors import DeadlineExceeded, InvalidArgument
from serving.host import Host
from serving.limits import MAX_N, MAX_PREFIXES, MAX_STREAM_N, MAX_TEXTS
from serving.observe.notes import note
from serving.repository import Model

Context = grpc.aio.ServicerContext[Any, Any]
T = TypeVar("T")
AT_A_TIME = 32
"""Texts whose answers are made before somebody else has the event loop."""


class GenerationService(generation_grpc.GenerationServiceServicer):
    """Makes strings, and tells how likely they are.

    Args:
        host: has the models.
        ahead: strings that are drawn at a time, at most, ahead of calls that come often; 0 for none.
    """

    def __init__(self, host: Host, ahead: int = 0) -> None:
        self._host = host
        self._bounding = Bounding(host.forbidden)
        self._searches = Searches()
        self._most_ahead = ahead

    @cached_property
    def _mailbox(self) -> Mailbox:
        return Mailbox()

    @cached_property
    def _ahead(self) -> Ahead:
        return Ahead(self._most_ahead, self._mailbox.post)

    @contextmanager
    def _taken(self, asked: str) -> Iterator[tuple[Model, AnyEngine]]:
        """The model that a call means, and its engine, which stays until the call is over."""
        model, engine = self._host.take(asked)
        try:
            note(model=model.full_name)
            yield model, engine
        finally:
            self._host.give_back(engine)

    async def Generate(  # noqa: D102 - told by the proto
        self, request: pb.GenerateRequest, context: Context
    ) -> pb.GenerateResponse:
        arrived = time.monotonic()
        with (
            self._taken(request.model) as (model, engine),
            self._ahead.of(request, engine) as stock,
        ):
            if answer := stock.take(engine):
                engine.admission.spared += 1
                note(samples=1, characters=answer.characters)
                return answer.content  # type: ignore[return-value]  # see `serialized`
            drawing = await drawing_of(request, model, deadline_of(context), MAX_N, self._bounding)
            job = drawing.job
            engine.submit(job)
            stock.expect(drawing, model, engine)
            # A caller that leaves cancels this coroutine, which cancels the job, which frees the rows.
            outcome = await self._mailbox.result_of(job)
            note(samples=outcome.usage.samples, characters=outcome.usage.characters)
            return pb.GenerateResponse(
                samples=map(sample_message, outcome.samples),
                model=model.full_name,
                model_digest=model.digest,
                seed=job.parameters.seed,
                settings=drawing.settings(),
                usage=usage_message(job, outcome.usage, arrived),
                shortfall_reason=SHORTFALL_REASONS[outcome.shortfall],
            )

    async def StreamGenerate(  # noqa: D102
        self, request: pb.StreamGenerateRequest, context: Context
    ) -> AsyncIterator[pb.StreamGenerateResponse]:
        asked = request.request
        with self._taken(asked.model) as (model, engine):
            asked.allow_partial = True
            with At("request.{}"):
                drawing = await drawing_of(
                    asked, model, deadline_of(context), MAX_STREAM_N, self._bounding
                )
            start_at(request, drawing)
            header = pb.StreamHeader(
                model=model.full_name,
                model_digest=model.digest,
                seed=drawing.job.parameters.seed,
                settings=drawing.settings(),
            )
            async with aclosing(stream(drawing.job, engine, self._mailbox, header)) as responses:
                async for response in responses:
                    yield response

    async def Score(self, request: pb.ScoreRequest, context: Context) -> pb.ScoreResponse:  # noqa: D102
        with self._taken(request.model) as (model, engine):
            checks.count("texts", len(request.texts), 1, MAX_TEXTS)
            manifest = model.manifest
            found = [encoded(text, manifest) for text in request.texts]
            ids = [one for one in found if isinstance(one, list)]
            readings = iter(await self._read(engine, ids, deadline_of(context)))
            response = pb.ScoreResponse(model=model.full_name, model_digest=model.digest)
            async for text, one in politely(list(zip(request.texts, found, strict=True))):
                response.scores.append(
                    one
                    if isinstance(one, pb.TextScore)
                    else score_message(
                        text, next(readings), manifest, model.known, request.characters
                    )
                )
            return response

    async def NextCharacters(  # noqa: D102
        self, request: pb.NextCharactersRequest, context: Context
    ) -> pb.NextCharactersResponse:
        with self._taken(request.model) as (model, engine):
            checks.count("prefixes", len(request.prefixes), 1, MAX_PREFIXES)
            checks.whole("top", request.top, 0, 2**31 - 1)
            manifest = model.manifest
            ids = [
                encode_prefix(prefix, manifest, f"prefixes[{place}]")
                for place, prefix in enumerate(request.prefixes)
            ]
            readings = await self._read(engine, ids, deadline_of(context))
            response = pb.NextCharactersResponse(model=model.full_name, model_digest=model.digest)
            async for reading in politely(readings):
                message = distribution_message(reading, manifest.alphabet, request.top)
                response.distributions.append(message)
            return response

    async def ListTopStrings(  # noqa: D102
        self, request: pb.ListTopStringsRequest, context: Context
    ) -> pb.ListTopStringsResponse:
        with self._taken(request.model) as (model, engine):
            search = await search_of(request, model, deadline_of(context), self._bounding)
            with self._searches.place(caller(), search.most_bytes):
                await self._search(engine, search, partial_at(deadline_of(context)))
            return pb.ListTopStringsResponse(
                **listed(search, model.manifest.vocabulary),
                model=model.full_name,
                model_digest=model.digest,
            )

    async def _search(self, engine: AnyEngine, search: TopSearch, stop: float | None) -> None:
        """Answer what a search asks for, until it is over or has no more time."""
        with suppress(DeadlineExceeded):
            while wanted := search.wanted():
                is_continued = search.expansions > 0
                readings = await self._read(engine, wanted, stop, is_continued=is_continued)
                logits = np.stack([reading.logits for reading in readings]).astype(np.float64)
                await asyncio.to_thread(search.tell, logits)
        search.give_back()

    async def _read(
        self,
        engine: AnyEngine,
        texts: Sequence[Sequence[int]],
        deadline: float | None,
        *,
        is_continued: bool = False,
    ) -> list[Reading]:
        """What the model makes of texts."""
        if not texts:
            return []
        job = Read(texts, deadline=deadline, caller=caller())
        engine.submit(job, is_continued=is_continued)
        readings: list[Reading] = await self._mailbox.result_of(job)
        return readings


async def politely(items: Sequence[T]) -> AsyncIterator[T]:
    """Each of them in turn, letting others have the event loop now and then."""
    for place, item in enumerate(items):
        if place % AT_A_TIME == AT_A_TIME - 1:
            await asyncio.sleep(0)
        yield item


def start_at(request: pb.StreamGenerateRequest, drawing: Drawing) -> None:
    """Let a stream begin at the index that it asks for; raises InvalidArgument."""
    job, start = drawing.job, request.start_index
    if start == 0:
        return
    checks.whole("start_index", start, 0, job.n - 1)
    if not request.request.sampling.HasField("seed"):
        raise InvalidArgument(
            "request.sampling.seed", "must be set for a stream to go on: the header told it"
        )
    job.start = job.collected = start


def deadline_of(context: Context) -> float | None:
    """The instant of time.monotonic() at which the caller leaves."""
    remaining = context.time_remaining()
    return None if remaining is None else time.monotonic() + remaining
