"""What surrounds every call: a caller reads an error of ours in full, and of any other error nothing."""

import logging
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError

from serving.api.status import abort
from serving.api.surrounding import Context, converted, surrounded
from serving.errors import InvalidArgument, ServingError

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from serving.api.surrounding import Handler


def shielded(method: str, handler: "Handler") -> "Handler":
    """A layer that turns what a method raises into a status, whatever kind of method it is."""
    return surrounded(handler, Shield)


def parsing(method: str, handler: "Handler") -> "Handler":
    """A layer that parses requests, since grpc itself answers a malformed one with UNKNOWN.

    The innermost, so that nothing is parsed for a caller who is refused.
    """
    if handler.request_deserializer is None:
        return handler
    return converted(handler, partial(parsed, handler.request_deserializer))


class Shield:
    """Ends one call with a status when something is raised inside."""

    __slots__ = ("_context",)

    def __init__(self, context: Context) -> None:
        self._context = context

    async def __aenter__(self) -> None:
        """Nothing is to be done before."""

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, ServingError):
            await abort(self._context, error)
        if isinstance(error, Exception) and not isinstance(error, grpc.aio.AbortError):
            log.error("a call failed", exc_info=error)
            await abort(self._context, ServingError("internal error"))


def parsed(deserializer: Callable[[bytes], Any], content: bytes) -> Any:
    """The request message; raises InvalidArgument for bytes that are none."""
    try:
        return deserializer(content)
    except DecodeError:
        raise InvalidArgument("request", "is no message of the method's type") from None
