"""The bytes of an answer: upper bounds, known before any work is done for it, and parts put together."""

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
"""Bytes of all fields that an answer has once: the longest settings among them."""
SAMPLE = 64
"""Bytes of a sample, a top string or a text's score beside its text or its characters."""
DISTRIBUTION, CHARACTER = 8, 13
"""Bytes of a distribution beside its characters, and of one of those beside the character itself."""


def strings_size(n: int, asked: pb.Constraints, manifest: Manifest) -> int:
    """The most bytes of an answer with `n` strings; the longest strings there can be fit into one.

    Values out of their range are left to those who check them.
    """
    n, max_length = min(n, MAX_N), min(asked.max_length or MAX_LENGTH, manifest.max_length)
    return REST + n * string_size(max_length, manifest.vocabulary)


def string_size(max_length: int, vocabulary: Vocabulary) -> int:
    """The bytes of one string in an answer."""
    return SAMPLE + max_length * vocabulary.max_bytes


def scores_size(request: pb.ScoreRequest) -> int:
    """The most bytes of an answer with scores: a double, or a position, for each character.

    A request has at most one character a byte, so that its answer fits.
    """
    each = 8 if request.characters else 4
    return REST + len(request.texts) * SAMPLE + each * request.ByteSize()


def distributions_size(prefixes: int, top: int, vocabulary: Vocabulary) -> int:
    """The most bytes of an answer with distributions; raises InvalidArgument if they are too many."""
    told = min(top or len(vocabulary), len(vocabulary))
    one = DISTRIBUTION + told * (CHARACTER + vocabulary.max_bytes)
    size = REST + prefixes * one
    if size > MAX_ANSWER:
        raise InvalidArgument(
            "prefixes",
            f"{prefixes:,} prefixes with {told:,} characters each may make an answer of {size:,} bytes; "
            f"at most {MAX_ANSWER:,} are sent: send at most {(MAX_ANSWER - REST) // one:,} prefixes, "
            "or set a lower top",
        )
    return size


def joined(parts: Iterable[bytes], rest: Response) -> Response:
    """An answer in bytes, which the layers send as they send messages.

    Serialized messages, one after the other, are one message with the fields of all.
    """
    content: Any = b"".join((*parts, rest.SerializeToString()))
    found: Response = content
    return found
