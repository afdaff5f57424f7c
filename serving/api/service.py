"""The methods of GenerationService: messages in, messages out; all work is done elsewhere."""

import sys
import time
from array import array
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, contextmanager, suppress
from functools import cached_property, partial
from typing import Any

import grpc
import numpy as np
from google.protobuf.message import Message

from makemore.v1 import generation_service_pb2 as pb
from makemore.v1 import generation_service_pb2_grpc as generation_grpc
from serving import checks
from serving.api.ahead import Ahead
from serving.api.bounding import Bounding
from serving.api.caller import caller
from serving.api.compiling import Room
from serving.api.drawing import (
    BUILT,
    SHORTFALL_REASONS,
    Drawing,
    drawing_of,
    partial_at,
    sample_parts,
    usage_message,
)
from serving.api.loop_time import BYTES, LoopTime
from serving.api.mailbox import Mailbox
from serving.api.memory import ANSWERS, SEARCHES, MemoryBudget
from serving.api.reading import SCORED, distribution_parts, encoded, parts, score_parts
from serving.api.request import At, encode_prefix
from serving.api.sizes import distributions_size, joined, scores_size, strings_size
from serving.api.streaming import stream, window_bytes
from serving.api.top import DEFAULT_N, listed, search_of, summary
from serving.engine.job import IDS, LIGHT, Ids, Read, Reading
from serving.engine.protocols import AnyEngine
from serving.engine.top import TopSearch
from serving.errors import DeadlineExceeded, InvalidArgument
from serving.host import Host
from serving.limits import MAX_N, MAX_PREFIXES, MAX_STREAM_N, MAX_TEXTS
from serving.observe.notes import note
from serving.repository import Model

Context = grpc.aio.ServicerContext[Any, Any]
SMALL = 2**16
"""Bytes of an answer whose memory is not counted."""
LOGIT = 4
"""Bytes of a logit."""


class GenerationService(generation_grpc.GenerationServiceServicer):
    """Makes strings, and tells how likely they are.

    Args:
        host: has the models.
        ahead: strings that are drawn at a time, at most, ahead of calls that come often; 0 for none.
    """

    def __init__(self, host: Host, ahead: int = 0) -> None:
        self._host = host
        self._bounding = Bounding(host.forbidden)
        self._loop_time = LoopTime()
        self._searches = MemoryBudget(SEARCHES, "the searches", "with fewer max_expansions")
        # In one thread, a caller's search then the next caller's: every search is let in by its memory.
        self._searching = Room(sys.maxsize, sys.maxsize)
        self._answers = MemoryBudget(ANSWERS, "the answers", "ask for less at a time", SMALL)
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
            size = strings_size(request.n, request.constraints, model.manifest)
            with self._answers.reserve(caller(), size):
                drawing = await drawing_of(
                    request, model, deadline_of(context), MAX_N, self._bounding, self._loop_time
                )
                job = drawing.job
                engine.submit(job)
                stock.expect(drawing, model, engine)
                # A caller that leaves cancels this coroutine, and so the job, which frees the rows.
                outcome = await self._mailbox.result_of(job)
                note(samples=outcome.usage.samples, characters=outcome.usage.characters)
                samples = await self._loop_time.run(
                    sample_parts(outcome.samples), BUILT * len(outcome.samples)
                )
                rest = pb.GenerateResponse(
                    model=model.full_name,
                    model_digest=model.digest,
                    seed=job.parameters.seed,
                    settings=drawing.settings(),
                    usage=usage_message(job, outcome.usage, arrived),
                    shortfall_reason=SHORTFALL_REASONS[outcome.shortfall],
                )
                return joined(samples, rest)

    async def StreamGenerate(  # noqa: D102
        self, request: pb.StreamGenerateRequest, context: Context
    ) -> AsyncIterator[pb.StreamGenerateResponse]:
        asked = request.request
        with self._taken(asked.model) as (model, engine):
            asked.allow_partial = True
            with At("request.{}"):
                drawing = await drawing_of(
                    asked,
                    model,
                    deadline_of(context),
                    MAX_STREAM_N,
                    self._bounding,
                    self._loop_time,
                )
            start_at(request, drawing)
            header = pb.StreamHeader(
                model=model.full_name,
                model_digest=model.digest,
                seed=drawing.job.parameters.seed,
                settings=drawing.settings(),
            )
            with self._answers.reserve(caller(), window_bytes(drawing.job, model.manifest)):
                how = (self._mailbox, self._loop_time, header)
                async with aclosing(stream(drawing.job, engine, *how)) as responses:
                    async for response in responses:
                        yield response

    async def Score(self, request: pb.ScoreRequest, context: Context) -> pb.ScoreResponse:  # noqa: D102
        with self._taken(request.model) as (model, engine):
            checks.count("texts", len(request.texts), 1, MAX_TEXTS)
            manifest, deadline = model.manifest, deadline_of(context)
            with self._answers.reserve(caller(), scores_size(request)):
                texts = list(request.texts)
                found = await self._loop_time.run(
                    (encoded(text, manifest) for text in texts), encoding_size(request, texts)
                )
                ids = [one if isinstance(one, array) else None for one in found]
                answer: list[bytes] = []
                async for part, readings in self._in_parts(engine, ids, deadline, width=0):
                    how = (manifest, model.known, request.characters)
                    answer += await self._loop_time.run(
                        score_parts(texts[part], found[part], readings, *how),
                        SCORED * len(readings),
                    )
                rest = pb.ScoreResponse(model=model.full_name, model_digest=model.digest)
                return joined(answer, rest)

    async def NextCharacters(  # noqa: D102
        self, request: pb.NextCharactersRequest, context: Context
    ) -> pb.NextCharactersResponse:
        with self._taken(request.model) as (model, engine):
            checks.count("prefixes", len(request.prefixes), 1, MAX_PREFIXES)
            checks.whole("top", request.top, 0, 2**31 - 1)
            manifest, deadline = model.manifest, deadline_of(context)
            vocabulary = manifest.vocabulary
            size = distributions_size(len(request.prefixes), request.top, vocabulary)
            with self._answers.reserve(caller(), size):
                prefixes = list(request.prefixes)
                ids = await self._loop_time.run(
                    (
                        array(IDS, encode_prefix(prefix, manifest, f"prefixes[{place}]"))
                        for place, prefix in enumerate(prefixes)
                    ),
                    encoding_size(request, prefixes),
                )
                answer: list[bytes] = []
                width = len(vocabulary)
                async for _, readings in self._in_parts(engine, ids, deadline, width=width):
                    answer += await self._loop_time.run(
                        distribution_parts(readings, manifest.alphabet, request.top),
                        len(readings) * width / 4,
                    )
                rest = pb.NextCharactersResponse(model=model.full_name, model_digest=model.digest)
                return joined(answer, rest)

    async def ListTopStrings(  # noqa: D102
        self, request: pb.ListTopStringsRequest, context: Context
    ) -> pb.ListTopStringsResponse:
        with self._taken(request.model) as (model, engine):
            size = strings_size(request.n or DEFAULT_N, request.constraints, model.manifest)
            search = await search_of(
                request, model, deadline_of(context), self._bounding, self._loop_time
            )
            with self._searches.reserve(caller(), search.most_bytes + size):
                await self._search(engine, search, partial_at(deadline_of(context)))
                answer = await self._loop_time.run(
                    listed(search, model.manifest.vocabulary), BUILT * len(search.found)
                )
                rest = pb.ListTopStringsResponse(
                    **summary(search), model=model.full_name, model_digest=model.digest
                )
                return joined(answer, rest)

    async def _search(self, engine: AnyEngine, search: TopSearch, stop: float | None) -> None:
        """Answer what a search asks for, until it is over or has no more time."""
        readings: Sequence[Reading] = ()
        with suppress(DeadlineExceeded):
            while True:
                step = partial(next_wanted, search, readings)
                wanted = await self._searching.run(caller(), object(), step)
                if not wanted:
                    break
                is_continued = search.expansions > 0
                readings = await self._read(engine, wanted, stop, is_continued=is_continued)
        search.give_back()

    async def _in_parts(
        self,
        engine: AnyEngine,
        texts: Sequence[Ids | None],
        deadline: float | None,
        *,
        width: int,
    ) -> AsyncIterator[tuple[slice, Sequence[Reading]]]:
        """Readings of texts, a group after the other, so that each is little to hold and to unpack.

        Args:
            engine: of the model.
            texts: token ids; None for a text that is not read.
            deadline: the instant of time.monotonic() at which the caller leaves; None for never.
            width: logits that are wanted of each; 0 for none.
        """
        lengths = [0 if text is None else len(text) for text in texts]
        is_bulk, is_continued = sum(lengths) + len(lengths) > LIGHT, False
        for part in parts(lengths, LOGIT * width):
            some = [text for text in texts[part] if text is not None]
            how = {"has_logits": width > 0, "is_bulk": is_bulk, "is_continued": is_continued}
            yield part, await self._read(engine, some, deadline, **how)
            is_continued = is_continued or bool(some)

    async def _read(
        self,
        engine: AnyEngine,
        texts: Sequence[Ids],
        deadline: float | None,
        *,
        has_logits: bool = True,
        is_bulk: bool = False,
        is_continued: bool = False,
    ) -> Sequence[Reading]:
        """What the model makes of texts."""
        if not texts:
            return []
        job = Read(texts, has_logits, is_bulk, deadline=deadline, caller=caller())
        engine.submit(job, is_continued=is_continued)
        readings: Sequence[Reading] = await self._mailbox.result_of(job)
        return readings


def next_wanted(search: TopSearch, readings: Sequence[Reading]) -> list[tuple[int, ...]]:
    """The prefixes that a search wants next, once it knows the readings of the last; in any thread."""
    if readings:
        search.tell(np.stack([reading.logits for reading in readings]).astype(np.float64))
    return search.wanted()


def encoding_size(request: Message, texts: Sequence[str]) -> float:
    """About the microseconds that it takes to check and encode the texts of a request."""
    return len(texts) + request.ByteSize() / BYTES


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
