"""What surrounds every call: a caller reads an error of ours in full, and of any other error nothing."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError

from serving.api.status import abort
from serving.api.surrounding import Context, converted, surrounded
from serving.errors import InvalidArgument, ServingError

log = logging.getLogger(__name__)

if TYPE_CHECKING:  # generic for the type checker alone
    Handler = grpc.RpcMethodHandler[Any, Any]
    Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Turns what a method raises into a status, whatever kind of method it is; the outermost of ours."""

    async def intercept_service(
        self,
        continuation: "Continuation",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap a method's handler; see grpc.aio.ServerInterceptor."""
        handler = await continuation(handler_call_details)
        return handler and surrounded(handler, statuses)


class ParsingInterceptor(grpc.aio.ServerInterceptor):
    """Parses requests inside the others, since grpc itself answers a malformed one with UNKNOWN.

    Innermost, so that nothing is parsed for a caller who is refused.
    """

    async def intercept_service(
        self,
        continuation: "Continuation",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap a method's handler; see grpc.aio.ServerInterceptor."""
        handler = await continuation(handler_call_details)
        if handler is None or handler.request_deserializer is None:
            return handler
        return converted(handler, partial(parsed, handler.request_deserializer))


@asynccontextmanager
async def statuses(context: Context) -> AsyncIterator[None]:
    """End the call with a status when something is raised inside."""
    try:
        yield
    except ServingError as error:
        await abort(context, error)
    except grpc.aio.AbortError:
        raise
    except Exception:
        log.exception("a call failed")
        await context.abort(grpc.StatusCode.INTERNAL, "internal error")


def parsed(deserializer: Callable[[bytes], Any], content: bytes) -> Any:
    """The request message; raises InvalidArgument for bytes that are none."""
    try:
        return deserializer(content)
    except DecodeError:
        raise InvalidArgument("request", "is no message of the method's type") from None
