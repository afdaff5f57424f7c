"""What surrounds every call: a caller reads an error of ours in full, and of any other error nothing."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from inspect import isasyncgenfunction
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError

from serving.api.status import status_of
from serving.errors import Exhausted, InvalidArgument, ServingError

log = logging.getLogger(__name__)

LAST_WORD = 0.1
"""Seconds in which the status of a stream that is cut may go out."""

if TYPE_CHECKING:  # generic for the type checker alone
    Handler = grpc.RpcMethodHandler[Any, Any] | None

Context = grpc.aio.ServicerContext[Any, Any]
Deserializer = Callable[[bytes], Any]


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Turns what a method raises into a status.

    Requests are parsed in here too, since grpc itself answers a malformed one with UNKNOWN.

    Args:
        read_timeout: seconds for which a stream's reader may take nothing before it is cut.
    """

    def __init__(self, read_timeout: float) -> None:
        self._read_timeout = read_timeout

    async def intercept_service(
        self,
        continuation: "Callable[[grpc.HandlerCallDetails], Awaitable[Handler]]",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap the handler of a method with one request; see grpc.aio.ServerInterceptor."""
        handler = await continuation(handler_call_details)
        if handler is None or handler.request_streaming:
            return handler
        if handler.response_streaming and not isasyncgenfunction(handler.unary_stream):
            return handler  # the standard health service, which writes to its context
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(
                guarded_stream(
                    handler.unary_stream, handler.request_deserializer, self._read_timeout
                ),
                request_deserializer=None,
                response_serializer=handler.response_serializer,
            )
        return grpc.unary_unary_rpc_method_handler(
            guarded(handler.unary_unary, handler.request_deserializer),
            request_deserializer=None,
            response_serializer=handler.response_serializer,
        )


@asynccontextmanager
async def statuses(context: Context) -> AsyncIterator[None]:
    """End the call with a status when something is raised inside."""
    try:
        yield
    except ServingError as error:
        await context.abort_with_status(status_of(error))
    except grpc.aio.AbortError:
        raise
    except Exception:
        log.exception("a call failed")
        await context.abort(grpc.StatusCode.INTERNAL, "internal error")


def guarded(behaviour: Any, deserializer: Deserializer | None) -> Any:
    """A unary method that takes the request's bytes and fails with a status alone."""

    async def call(content: bytes, context: Context) -> Any:
        async with statuses(context):
            return await behaviour(parsed(content, deserializer), context)

    return call


def guarded_stream(behaviour: Any, deserializer: Deserializer | None, read_timeout: float) -> Any:
    """The same for a method that answers with a stream, which ends when nobody reads it."""

    async def call(content: bytes, context: Context) -> None:
        async with (
            statuses(context),
            aclosing(behaviour(parsed(content, deserializer), context)) as responses,
        ):
            async for response in responses:
                try:
                    await asyncio.wait_for(context.write(response), read_timeout)
                except TimeoutError:
                    await cut(context, read_timeout)
                    return

    return call


async def cut(context: Context, read_timeout: float) -> None:
    """End a stream whose reader takes nothing: the status waits behind what was sent, and we do not."""
    error = Exhausted(
        f"nothing was read for {read_timeout:g} s; go on with start_index, and read faster"
    )
    with suppress(TimeoutError):
        await asyncio.wait_for(context.abort_with_status(status_of(error)), LAST_WORD)


def parsed(content: bytes, deserializer: Deserializer | None) -> Any:
    """The request message; raises InvalidArgument for bytes that are none."""
    if deserializer is None:
        return content
    try:
        return deserializer(content)
    except DecodeError:
        raise InvalidArgument("request", "is no message of the method's type") from None
