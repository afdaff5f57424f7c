"""What surrounds every call: a caller reads an error of ours in full, and of any other error nothing."""

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError

from serving.errors import InvalidArgument, ServingError
from serving.status import status_of

log = logging.getLogger(__name__)

if TYPE_CHECKING:  # generic for the type checker alone
    Handler = grpc.RpcMethodHandler[Any, Any] | None

Deserializer = Callable[[bytes], Any]


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Turns what a unary method raises into a status.

    Requests are parsed in here too, since grpc itself answers a malformed one with UNKNOWN.
    """

    async def intercept_service(
        self,
        continuation: "Callable[[grpc.HandlerCallDetails], Awaitable[Handler]]",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap the handler of a unary method; see grpc.aio.ServerInterceptor."""
        handler = await continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler
        return grpc.unary_unary_rpc_method_handler(
            guarded(handler.unary_unary, handler.request_deserializer),
            request_deserializer=None,
            response_serializer=handler.response_serializer,
        )


def guarded(behaviour: Any, deserializer: Deserializer | None) -> Any:
    """A unary method that takes the request's bytes and fails with a status alone."""

    async def call(content: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            return await behaviour(parsed(content, deserializer), context)
        except ServingError as error:
            await context.abort_with_status(status_of(error))
        except grpc.aio.AbortError:
            raise
        except Exception:
            log.exception("a call failed")
            await context.abort(grpc.StatusCode.INTERNAL, "internal error")

    return call


def parsed(content: bytes, deserializer: Deserializer | None) -> Any:
    """The request message; raises InvalidArgument for bytes that are none."""
    if deserializer is None:
        return content
    try:
        return deserializer(content)
    except DecodeError:
        raise InvalidArgument("request", "is no message of the method's type") from None
