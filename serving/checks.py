"""Range checks for configuration and requests; the error names the field and its range."""

from collections.abc import Iterable

from serving.errors import InvalidArgument
from serving.quoting import quoted


def whole(field: str, value: int, low: int, high: int) -> None:
    """Raise InvalidArgument unless `low <= value <= high`."""
    if not low <= value <= high:
        raise InvalidArgument(field, f"must be from {low:,} to {high:,}, not {value:,}")


def count(field: str, found: int, low: int, high: int) -> None:
    """Raise InvalidArgument unless a list has from `low` to `high` strings."""
    if not low <= found <= high:
        raise InvalidArgument(field, f"must have from {low:,} to {high:,} strings, not {found:,}")


def real(field: str, value: float, low: float, high: float) -> None:
    """Raise InvalidArgument unless `value` is a number from `low` to `high`."""
    try:
        is_inside = low <= value <= high  # which no NaN is
    except TypeError:
        is_inside = False
    if not is_inside:
        raise InvalidArgument(field, f"must be a number from {low:g} to {high:g}, not {value}")


def one_of(field: str, value: str, choices: Iterable[str]) -> None:
    """Raise InvalidArgument unless `value` is one of the choices."""
    if value not in choices:
        raise InvalidArgument(
            field, f"must be one of {', '.join(choices)}, not {quoted(str(value))}"
        )


def sendable(field: str, text: str) -> None:
    """Raise InvalidArgument for text with half a surrogate pair, which no message can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidArgument(field, "holds half a surrogate pair, which is no character") from None
