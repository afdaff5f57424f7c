"""From a ListTopStringsRequest to a search, and from what it finds to a message."""

import math
from collections.abc import Iterator
from typing import Any

from makemore.v1 import generation_service_pb2 as pb
from serving import checks
from serving.api.bounding import Bounding
from serving.api.constraints import resolve
from serving.api.loop_time import LoopTime
from serving.api.request import encode_prefix
from serving.engine.top import Ids, TopSearch
from serving.limits import MAX_N
from serving.repository import Model
from serving.vocabulary import Vocabulary, is_normalized

DEFAULT_N = 10
DEFAULT_EXPANSIONS = 20_000
MAX_EXPANSIONS = 200_000
STRINGS = 64
"""Strings whose messages are built in one step."""


async def search_of(
    request: pb.ListTopStringsRequest,
    model: Model,
    deadline: float | None,
    bounding: Bounding,
    loop_time: LoopTime,
) -> TopSearch:
    """The search that a request asks for.

    Raises:
        InvalidArgument, FailedPrecondition: see drawing_of.
        Exhausted, DeadlineExceeded: see Bounding.
    """
    checks.whole("n", request.n, 0, MAX_N)
    if request.HasField("max_expansions"):
        checks.whole("max_expansions", request.max_expansions, 1, MAX_EXPANSIONS)
    manifest = model.manifest
    prefix = tuple(encode_prefix(request.prefix, manifest))
    resolved = await resolve(
        request.constraints, manifest, model.known, prefix, deadline, bounding, loop_time
    )
    bounds = resolved.bounds or await bounding.bounds(
        manifest.alphabet, resolved.rules, (0, resolved.max_length), prefix
    )
    selection, decode = resolved.selection, manifest.vocabulary.decode

    def is_wanted(ids: Ids) -> bool:
        text = decode(ids)
        if selection.normalized_only and not is_normalized(text):
            return False
        return text not in selection.excluded and not (selection.known and text in selection.known)

    return TopSearch(
        prefix,
        bounds,
        request.n or DEFAULT_N,
        request.max_expansions or DEFAULT_EXPANSIONS,
        is_wanted,
    )


def listed(search: TopSearch, vocabulary: Vocabulary) -> Iterator[bytes]:
    """The strings that were found, as parts of a serialized ListTopStringsResponse."""
    for begin in range(0, len(search.found), STRINGS):
        part = search.found[begin : begin + STRINGS]
        yield pb.ListTopStringsResponse(
            strings=[
                pb.TopString(text=vocabulary.decode(found.ids), log_prob=found.log_prob)
                for found in part
            ]
        ).SerializeToString()


def summary(search: TopSearch) -> dict[str, Any]:
    """What is told of the strings together, as fields of the response."""
    return {
        "complete": search.is_complete,
        "mass_covered": math.fsum(math.exp(found.log_prob) for found in search.found),
        "next_log_prob_bound": search.bound if search.bound > -math.inf else None,
        "expansions": search.expansions,
    }
