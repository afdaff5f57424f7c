"""Construction and validation of a client's requests, and their splitting into chunks that fit."""

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from serving import checks
from serving.errors import InvalidArgument, TooLarge
from serving.options import MAX_ANSWER, MAX_REQUEST

Request = TypeVar("Request", bound=Message)
Answer = TypeVar("Answer")
ITEM_OVERHEAD = 6
"""Maximum bytes of overhead of a string in a repeated field."""


def build(kind: type[Request], **fields: Any) -> Request:
    """Build a message; raises InvalidArgument, naming the field, for a value that the field cannot hold."""
    known = kind.DESCRIPTOR.fields_by_name
    for name, value in fields.items():
        if name not in known:
            raise InvalidArgument(name, f"is no field of the message {kind.DESCRIPTOR.name}")
        if known[name].is_repeated and isinstance(value, str | bytes):
            raise InvalidArgument(name, "must be a list of strings, not one string")
    try:
        return kind(**fields)
    except (ValueError, TypeError) as error:
        for name, value in fields.items():
            _check_value(kind, known[name], value)
        raise InvalidArgument("request", str(error)) from None


def _check_value(kind: type[Message], field: Any, value: Any) -> None:
    """Raise InvalidArgument for a value that a field cannot hold."""
    if field.is_repeated and isinstance(value, Sequence):
        for place, item in enumerate(value):
            _check_string(f"{field.name}[{place}]", item)
    elif field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated and value is not None:
        _check_string(field.name, value)
    try:
        kind(**{field.name: value})
    except (ValueError, TypeError) as error:
        raise InvalidArgument(field.name, str(error)) from None


def _check_string(field: str, value: Any) -> None:
    if not isinstance(value, str):
        raise InvalidArgument(field, f"must be a string, not {type(value).__name__}")
    checks.sendable(field, value)


def check_size(request: Message) -> None:
    """Raise TooLarge for a request larger than the server accepts."""
    if (size := request.ByteSize()) > MAX_REQUEST:
        raise TooLarge(
            "request",
            f"has {size:,} bytes, most of them in {_largest_field(request)}; "
            f"at most {MAX_REQUEST:,} are taken",
        )


def _largest_field(message: Message) -> str:
    """Return the path of the field with the most bytes of a message."""
    sizes = {
        field.name: type(message)(**{field.name: value}).ByteSize()
        for field, value in message.ListFields()
    }
    name = max(sizes, key=lambda name: sizes[name])
    if message.DESCRIPTOR.fields_by_name[name].type == FieldDescriptor.TYPE_MESSAGE:
        return f"{name}.{_largest_field(getattr(message, name))}"
    return name


def answers_in_chunks(
    field: str,
    items: Iterable[str],
    most: int,
    ask: Callable[[list[str]], Sequence[Answer]],
    answer_bytes: Callable[[str], int] = lambda item: 0,
) -> Iterator[Answer]:
    """Yield the answers to any number of strings, requested in chunks that fit into a message.

    The size of an answer depends on the model, so a chunk whose response is too large is halved.

    Args:
        field: the field of the request that holds the strings.
        items: the strings.
        most: maximum number of strings in a chunk.
        ask: sends a chunk and returns an answer for each of its strings.
        answer_bytes: approximate maximum size of the answer to a string.

    Raises:
        TooLarge: a single string is too large; the error names its index among all strings.
    """
    every = _checked_strings(field, items)
    waiting: deque[str] = deque()
    first = 0
    while True:
        waiting.extend(islice(every, max(most - len(waiting), 0)))
        if not waiting:
            return
        chunk = _leading_chunk(waiting, most, answer_bytes)
        try:
            answers = ask(chunk)
        except TooLarge as error:
            if len(chunk) == 1:
                raise TooLarge(f"{field}[{first}]", error.description) from None
            most = len(chunk) // 2
            continue
        except InvalidArgument as error:
            raise _with_offset(error, field, first) from None
        yield from answers
        first += len(chunk)
        for _ in chunk:
            waiting.popleft()


def _checked_strings(field: str, items: Iterable[str]) -> Iterator[str]:
    if isinstance(items, str | bytes) or not isinstance(items, Iterable):
        raise InvalidArgument(field, f"must be a list of strings, not {type(items).__name__}")
    for place, item in enumerate(items):
        _check_string(f"{field}[{place}]", item)
        yield item


def _leading_chunk(
    items: Iterable[str], most: int, answer_bytes: Callable[[str], int]
) -> list[str]:
    """Return the leading items that fit into a request and their answers into a response; at least one."""
    chunk: list[str] = []
    # 512 bytes are for the other fields, the longest of which is the model's name.
    request = response = 512
    for item in islice(items, most):
        request += len(item.encode()) + ITEM_OVERHEAD
        response += answer_bytes(item)
        if chunk and (request > MAX_REQUEST or response > MAX_ANSWER):
            break
        chunk.append(item)
    return chunk


def _with_offset(error: InvalidArgument, field: str, first: int) -> InvalidArgument:
    """Return the error about a string of a chunk with the string's index among all strings."""
    match = re.fullmatch(rf"{field}\[(\d+)\]", error.field)
    place = f"{field}[{first + int(match[1])}]" if match else error.field
    return InvalidArgument(place, error.description)
