"""Methods of every kind inside the shield: what a caller learns of what goes wrong in them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from serving.api import shield
from serving.api.layers import Layers
from serving.api.shield import Shield, messages, shielded
from serving.errors import DeadlineExceeded, NotFound

SECRET = "/srv/secret: 0x7f"
KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
MALFORMED = (
    b"\x0a\xff\xff",  # a string longer than the message
    b"\x0a\x02\xff\xfe",  # not UTF-8
    b"\xff" * 11,  # a number without an end
    b"\x0b" * 200,  # groups within groups
    b"\x0a\xfe\xff\xff\xff\x07",  # 2 GiB
)


def failing(error: Exception | None) -> dict[str, Any]:
    """A handler of each kind that raises, or says what it was told."""

    async def unary(request: Any, context: Any) -> Any:
        if error:
            raise error
        return request if isinstance(request, StringValue) else [r async for r in request][-1]

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        yield await unary(request, context)

    return {
        kind: getattr(grpc, f"{kind}_rpc_method_handler")(
            stream if kind.endswith("stream") else unary,
            request_deserializer=StringValue.FromString,
            response_serializer=StringValue.SerializeToString,
        )
        for kind in KINDS
    }


def answer(handlers: dict[str, Any], kind: str, content: bytes, **call: Any) -> Any:
    """What a caller gets from a server with those handlers: bytes, or the error."""

    async def ask() -> Any:
        layers = Layers(shielded, messages)
        layers.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.S", handlers)])
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((layers,))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                method: Callable[..., Any] = getattr(channel, kind)(f"/test.S/{kind}")
                response = method(
                    iter([content]) if kind.startswith("stream") else content, timeout=10
                )
                if kind.endswith("stream"):
                    return [r async for r in response][-1]
                return await response
        except grpc.RpcError as error:
            return error
        finally:
            await server.stop(0)

    return asyncio.run(ask())


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_method_answers(kind: str) -> None:
    content = StringValue(value="é").SerializeToString()
    assert answer(failing(None), kind, content) == content


@pytest.mark.parametrize("kind", KINDS)
def test_no_exceptions_text_reaches_a_caller(kind: str) -> None:
    error = answer(failing(ValueError(SECRET)), kind, b"")
    assert (error.code(), error.details()) == (grpc.StatusCode.INTERNAL, "internal error")
    assert "secret" not in repr(error.trailing_metadata())


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_of_ours_reaches_a_caller_without_its_control_characters(kind: str) -> None:
    error = answer(failing(NotFound("no \x1b[2J\nmodel")), kind, b"")
    assert error.code() == grpc.StatusCode.NOT_FOUND
    assert error.details() == r"no \x1b[2J\nmodel"


@pytest.mark.parametrize("content", MALFORMED)
@pytest.mark.parametrize("kind", KINDS)
def test_bytes_that_are_no_message_are_an_invalid_argument(kind: str, content: bytes) -> None:
    error = answer(failing(None), kind, content)
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert error.details() == "request: is no message of the method's type"


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_that_is_too_large_is_told_and_not_logged(
    kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It was counted as given, and grpc logged a traceback and told the caller nothing of use."""
    monkeypatch.setattr(shield, "MAX_ANSWER", 10)
    assert answer(failing(None), kind, StringValue(value="x" * 8).SerializeToString())
    error = answer(failing(None), kind, StringValue(value="x" * 9).SerializeToString())
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "has 11 bytes, and may have 10: ask for less" in error.details()
    assert not caplog.records


def test_a_caller_who_leaves_as_the_error_comes_leaves_no_trace_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Found under overload: the status of a call that is over cannot be sent, which grpc logged at length."""

    class Gone:
        def trailing_metadata(self) -> tuple[()]:
            return ()

        async def abort(self, *arguments: object) -> None:
            raise grpc.aio.InternalError("Failed execute_batch")

    async def end() -> None:
        with pytest.raises(asyncio.CancelledError):
            async with Shield(Gone()):  # type: ignore[arg-type]
                raise DeadlineExceeded("late")

    asyncio.run(end())
    assert not caplog.records
