"""Bounds on an untrusted JSON value, checked before it is used."""

import math
from typing import Any

from serving import checks
from serving.errors import InvalidArgument
from serving.quoting import quoted

MAX_KEY = 64
"""Maximum characters of an object's key, and of the name of a value before nested keys are appended."""
MAX_INT = 2**63 - 1

Named = tuple[str, Any]
"""The name of a nested value, for messages, and the value."""


def check_value(field: str, value: Any, max_size: int, max_depth: int) -> None:
    """Raise InvalidArgument unless a JSON value is small, shallow and of JSON types with finite numbers.

    Args:
        field: the name of the value in messages; empty for a whole document.
        value: dictionaries, lists, tuples, strings, numbers, booleans and None.
        max_size: maximum of all characters of strings and keys, plus one for each nested value.
        max_depth: maximum nesting of lists and objects.
    """
    level, size = [(field, value)], 0  # breadth first: recursion could exceed Python's limit
    for _ in range(max_depth + 1):
        inner: list[Named] = []
        for name, part in level:
            size += 1 + _size(name, part)
            inner += _children(name, part)
        if size + len(inner) > max_size:
            raise InvalidArgument(field or "JSON", f"has more than {max_size:,} characters")
        if not inner:
            return
        level = inner
    raise InvalidArgument(level[0][0], f"is nested more than {max_depth} levels deep")


def _size(field: str, part: Any) -> int:
    """Check a scalar or an object's keys and return the number of their characters."""
    match part:
        case str():
            checks.sendable(field, part)
            return len(part)
        case dict():
            return sum(_key_size(field, key) for key in part)
        case int() if abs(part) > MAX_INT:
            raise InvalidArgument(field, f"is not from {-MAX_INT:,} to {MAX_INT:,}")
        case list() | tuple() | int() | None:
            return 0
        case float() if math.isfinite(part):
            return 0
    raise InvalidArgument(field, f"{quoted(repr(part))} is neither text nor a finite number")


def _children(field: str, part: Any) -> list[Named]:
    match part:
        case dict():
            return [(_nested_name(field, key), one) for key, one in part.items()]
        case list() | tuple():
            return [(field, one) for one in part]
    return []


def _nested_name(field: str, key: str) -> str:
    """Return the name of a nested value in messages, of bounded length at any depth."""
    return f"{field}: {key}" if field and len(field) < MAX_KEY else field or key


def _key_size(field: str, key: Any) -> int:
    if not isinstance(key, str) or len(key) > MAX_KEY:
        raise InvalidArgument(
            field or "JSON", f"a key must be a text of at most {MAX_KEY} characters"
        )
    checks.sendable(field or "JSON", key)
    return len(key)
