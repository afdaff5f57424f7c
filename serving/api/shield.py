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
from serving.errors import InvalidArgument, ServingError, TooLarge
from serving.options import MAX_ANSWER

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from serving.api.surrounding import Handler


def shielded(method: str, handler: "Handler") -> "Handler":
    """A layer that turns what a method raises into a status, whatever kind of method it is."""
    return surrounded(handler, Shield)


def messages(method: str, handler: "Handler") -> "Handler":
    """A layer that parses requests and serializes answers, which grpc does without a word to the caller.

    grpc answers a malformed request with UNKNOWN, and counts an answer that is too large as given. The
    innermost layer, so that nothing is parsed for a caller who is refused.
    """
    parse, serialize = handler.request_deserializer, handler.response_serializer
    if parse is None or serialize is None:
        return handler
    return converted(handler, partial(parsed, parse), partial(serialized, serialize))


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


def serialized(serializer: Callable[[Any], bytes], message: Any) -> bytes:
    """The bytes of an answer, unless it is bytes; raises TooLarge if it has more than MAX_ANSWER."""
    content = message if isinstance(message, bytes) else serializer(message)
    if len(content) > MAX_ANSWER:
        raise TooLarge(
            "request",
            f"its answer has {len(content):,} bytes, and may have {MAX_ANSWER:,}: ask for less at a time",
        )
    return content
