"""A stream that nobody reads ends: what it holds is for others."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress
from inspect import isasyncgenfunction
from typing import TYPE_CHECKING, Any

import grpc

from serving.api.status import abort
from serving.api.surrounding import Context
from serving.errors import Exhausted

if TYPE_CHECKING:
    from serving.api.surrounding import Handler

LAST_WORD = 0.1
"""Seconds in which the status of a stream that is cut may go out."""


class SlowReaders:
    """A layer that ends streams which are not read; it writes, so those around it see no messages.

    Args:
        read_timeout: seconds for which a reader may take nothing.
    """

    def __init__(self, read_timeout: float) -> None:
        self._read_timeout = read_timeout

    def __call__(self, method: str, handler: "Handler") -> "Handler":
        """The handler of a method, inside."""
        if not isasyncgenfunction(handler.unary_stream):
            return handler
        return grpc.unary_stream_rpc_method_handler(
            written(handler.unary_stream, self._read_timeout),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


def written(behaviour: Callable[..., AsyncIterator[Any]], read_timeout: float) -> Any:
    """A method that writes what another one yields, as long as it is read."""

    async def call(request: Any, context: Context) -> None:
        async with aclosing(behaviour(request, context)) as responses:  # type: ignore[type-var]
            async for response in responses:
                try:
                    await asyncio.wait_for(context.write(response), read_timeout)
                except TimeoutError:
                    await cut(context, read_timeout)
                    return
                except grpc.aio.InternalError:  # the reader has left in this moment
                    raise asyncio.CancelledError from None

    return call


async def cut(context: Context, read_timeout: float) -> None:
    """End a stream with a status, which waits behind what was sent before; we do not."""
    error = Exhausted(
        f"nothing was read for {read_timeout:g} s; go on with start_index, and read faster"
    )
    with suppress(TimeoutError):
        await asyncio.wait_for(abort(context, error), LAST_WORD)
