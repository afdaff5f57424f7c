"""Upper bounds on the size of a response, computed before any work for it, and its final assembly."""

from collections.abc import Iterable
from typing import Any, TypeVar

from google.protobuf.message import Message

from makemore.v1 import generation_service_pb2 as pb
from serving.errors import InvalidArgument
from serving.limits import MAX_N
from serving.manifest import MAX_LENGTH, Manifest
from serving.options import MAX_ANSWER
from serving.vocabulary import Vocabulary

Response = TypeVar("Response", bound=Message)

REST = 2**15
"""Bytes of the fields that occur once in a response, with the longest possible settings."""
SAMPLE = 64
"""Bytes of a sample, a top string or a text's score, without its text or the values per character."""
DISTRIBUTION, CHARACTER = 8, 13
"""Bytes of a distribution without its entries, and of an entry without its character."""


def strings_size(n: int, asked: pb.Constraints, manifest: Manifest) -> int:
    """Maximum size of a response with `n` strings; MAX_N of the longest possible strings fit into one.

    Values above their limits are clamped, since the request is validated later.
    """
    n, max_length = min(n, MAX_N), min(asked.max_length or MAX_LENGTH, manifest.max_length)
    return REST + n * string_size(max_length, manifest.vocabulary)


def string_size(max_length: int, vocabulary: Vocabulary) -> int:
    """Maximum size of one string in a response."""
    return SAMPLE + max_length * vocabulary.max_bytes


def scores_size(request: pb.ScoreRequest) -> int:
    """Maximum size of a response with scores: a double, or a position, for each character.

    A request has at least one byte per character, so its size bounds that of the response.
    """
    each = 8 if request.characters else 4
    return REST + len(request.texts) * SAMPLE + each * request.ByteSize()


def distributions_size(prefixes: int, top: int, vocabulary: Vocabulary) -> int:
    """Maximum size of a response with distributions; raises InvalidArgument if it could be too large."""
    shown = min(top or len(vocabulary), len(vocabulary))
    one = DISTRIBUTION + shown * (CHARACTER + vocabulary.max_bytes)
    size = REST + prefixes * one
    if size > MAX_ANSWER:
        raise InvalidArgument(
            "prefixes",
            f"{prefixes:,} prefixes with {shown:,} characters each may make an answer of {size:,} bytes; "
            f"at most {MAX_ANSWER:,} are sent: send at most {(MAX_ANSWER - REST) // one:,} prefixes, "
            "or set a lower top",
        )
    return size


def joined(parts: Iterable[bytes], rest: Response) -> Response:
    """Concatenate serialized parts of a response and the rest of it into one serialized response.

    Concatenated protobuf messages are one message with the fields of all. The interceptors send bytes as
    they send messages, hence the type.
    """
    content: Any = b"".join((*parts, rest.SerializeToString()))
    found: Response = content
    return found
