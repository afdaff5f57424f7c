"""What of the call under way is worth telling: its identifier, and what is found out while it runs."""

from contextvars import ContextVar
from typing import Any

_request_id: ContextVar[str] = ContextVar("request_id", default="")
_notes: ContextVar[dict[str, Any] | None] = ContextVar("notes", default=None)


def begin(request_id: str, notes: dict[str, Any] | None) -> None:
    """A call begins. Never set back, since each call has a task, and so a context, of its own.

    Args:
        request_id: the call's identifier.
        notes: takes what is noted; None where nobody wants to know.
    """
    _request_id.set(request_id)
    _notes.set(notes)


def request_id() -> str:
    """That of the call under way; empty outside of one."""
    return _request_id.get()


def note(**values: str | float) -> None:
    """Remember something for the call's line in the log and for its span."""
    notes = _notes.get()
    if notes is not None:
        notes.update(values)
