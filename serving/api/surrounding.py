"""One handler inside another: what layers, which see methods of every kind, are made of."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from inspect import isasyncgenfunction
from typing import TYPE_CHECKING, Any

import grpc

if TYPE_CHECKING:  # generic for the type checker alone
    Handler = grpc.RpcMethodHandler[Any, Any]

Context = grpc.aio.ServicerContext[Any, Any]
Around = Callable[[Context], AbstractAsyncContextManager[None]]
"""What happens before and after a call; it may raise before, and see what was raised after."""
Conversion = Callable[[Any], Any]

_KINDS = {
    (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
    (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
    (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
    (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
}


def surrounded(handler: "Handler", around: Around) -> "Handler":
    """A handler whose every call runs inside `around`."""
    return _remade(handler, lambda b: _inside(b, around))


def preceded(handler: "Handler", check: Callable[[Context], None]) -> "Handler":
    """A handler before whose every call `check` is called, which may raise."""
    return _remade(handler, lambda b: _after(b, check))


def converted(handler: "Handler", request: Conversion, response: Conversion) -> "Handler":
    """A handler that takes and gives bytes: of each message it makes the other by these."""
    kind, make = _KINDS[handler.request_streaming, handler.response_streaming]
    behaviour: Any = getattr(handler, kind)

    def made(content: Any) -> Any:
        return _each(request, content) if handler.request_streaming else request(content)

    async def call(content: Any, context: Context) -> Any:
        return response(await behaviour(made(content), context))

    async def stream(content: Any, context: Context) -> AsyncIterator[Any]:
        async with aclosing(behaviour(made(content), context)) as answers:
            async for answer in answers:
                yield response(answer)

    return make(stream if isasyncgenfunction(behaviour) else call)


def _remade(handler: "Handler", wrap: Callable[[Any], Any]) -> "Handler":
    kind, make = _KINDS[handler.request_streaming, handler.response_streaming]
    return make(
        wrap(getattr(handler, kind)),
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )


def _inside(behaviour: Any, around: Around) -> Any:
    async def call(request: Any, context: Context) -> Any:
        async with around(context):
            return await behaviour(request, context)

    async def stream(request: Any, context: Context) -> AsyncIterator[Any]:
        async with around(context), aclosing(behaviour(request, context)) as responses:
            async for response in responses:
                yield response

    return stream if isasyncgenfunction(behaviour) else call


def _after(behaviour: Any, check: Callable[[Context], None]) -> Any:
    async def call(request: Any, context: Context) -> Any:
        check(context)
        return await behaviour(request, context)

    async def stream(request: Any, context: Context) -> AsyncIterator[Any]:
        check(context)
        async with aclosing(behaviour(request, context)) as responses:
            async for response in responses:
                yield response

    return stream if isasyncgenfunction(behaviour) else call


async def _each(convert: Conversion, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        yield convert(request)
