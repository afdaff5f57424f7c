"""Bounds on a JSON value that somebody else has written, checked before anything is done with it."""

import math
from typing import Any

from serving import checks
from serving.errors import InvalidArgument
from serving.quoting import quoted

MAX_KEY = 64
"""Characters of an object's key."""
MAX_WHOLE = 2**63 - 1

Named = tuple[str, Any]
"""A part of a value, with its name in messages."""


def check_value(field: str, value: Any, max_size: int, max_depth: int) -> None:
    """Raise InvalidArgument unless a JSON value is small, shallow and of numbers and text alone.

    Args:
        field: the name of the value in messages; empty for a whole text.
        value: of dictionaries, lists, tuples, texts, numbers, booleans and None.
        max_size: characters of all texts and keys together, each part counting as one more.
        max_depth: levels of lists and objects within each other.
    """
    level, size = [(field, value)], 0  # level by level: a recursion would end where Python's does
    for _ in range(max_depth + 1):
        inner: list[Named] = []
        for name, part in level:
            size += 1 + _size(name, part)
            inner += _parts(name, part)
        if size + len(inner) > max_size:
            raise InvalidArgument(field or "JSON", f"has more than {max_size:,} characters")
        if not inner:
            return
        level = inner
    raise InvalidArgument(level[0][0], f"is nested more than {max_depth} levels deep")


def _size(field: str, part: Any) -> int:
    """Characters of a text or of an object's keys, which are checked, as numbers are."""
    match part:
        case str():
            checks.sendable(field, part)
            return len(part)
        case dict():
            return sum(_key_size(field, key) for key in part)
        case int() if abs(part) > MAX_WHOLE:
            raise InvalidArgument(field, f"is not from {-MAX_WHOLE:,} to {MAX_WHOLE:,}")
        case list() | tuple() | int() | None:
            return 0
        case float() if math.isfinite(part):
            return 0
    raise InvalidArgument(field, f"{quoted(repr(part))} is neither text nor a finite number")


def _parts(field: str, part: Any) -> list[Named]:
    match part:
        case dict():
            return [(_inside(field, key), one) for key, one in part.items()]
        case list() | tuple():
            return [(field, one) for one in part]
    return []


def _inside(field: str, key: str) -> str:
    """The name of a part in messages, which does not grow with the depth."""
    return f"{field}: {key}" if field and len(field) < MAX_KEY else field or key


def _key_size(field: str, key: Any) -> int:
    if not isinstance(key, str) or len(key) > MAX_KEY:
        raise InvalidArgument(
            field or "JSON", f"a key must be a text of at most {MAX_KEY} characters"
        )
    checks.sendable(field or "JSON", key)
    return len(key)
