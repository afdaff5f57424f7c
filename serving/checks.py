"""Range checks for configuration and requests; the error names the field and its range."""

import math
from collections.abc import Iterable

from serving.errors import InvalidArgument


def whole(field: str, value: int, low: int, high: int) -> None:
    """Raise InvalidArgument unless `low <= value <= high`."""
    if not low <= value <= high:
        raise InvalidArgument(field, f"must be from {low:,} to {high:,}, not {value:,}")


def real(field: str, value: float, low: float, high: float) -> None:
    """Raise InvalidArgument unless `value` is a finite number from `low` to `high`."""
    if not (math.isfinite(value) and low <= value <= high):
        raise InvalidArgument(field, f"must be a number from {low:g} to {high:g}, not {value:g}")


def one_of(field: str, value: str, choices: Iterable[str]) -> None:
    """Raise InvalidArgument unless `value` is one of the choices."""
    if value not in choices:
        raise InvalidArgument(field, f"must be one of {', '.join(choices)}, not '{value}'")
