"""Between this program's errors and gRPC's statuses: the one place that knows both."""

import math
import re
from asyncio import CancelledError, get_running_loop
from contextlib import suppress
from typing import NoReturn, TypeVar

import grpc
from google.protobuf import duration_pb2
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from serving.api.surrounding import Context
from serving.errors import (
    DeadlineExceeded,
    Exhausted,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ServingError,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UnexpectedStatus,
)
from serving.quoting import printable

Detail = TypeVar(
    "Detail",
    error_details_pb2.BadRequest,
    error_details_pb2.ErrorInfo,
    error_details_pb2.RetryInfo,
)
TOO_LARGE = error_details_pb2.ErrorInfo(reason="MESSAGE_TOO_LARGE", domain="makemore.v1")
"""Marks the status of a TooLarge."""

_LARGER = re.compile(r"message larger than max(?: \((\d+) vs\. (\d+)\))?", re.IGNORECASE)
"""What grpc says of a message that it does not take, in either direction."""


def status_of(error: ServingError) -> grpc.Status:
    """The status that a caller gets.

    The field of a bad argument is in google.rpc.BadRequest, when to try again in google.rpc.RetryInfo;
    google.rpc.ErrorInfo marks what is too large.
    """
    status = status_pb2.Status(code=code_pb2.Code.Value(error.code), message=printable(str(error)))
    if isinstance(error, InvalidArgument):
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=error.field, description=printable(error.description)
        )
        status.details.add().Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    if isinstance(error, TooLarge):
        status.details.add().Pack(TOO_LARGE)
    if isinstance(error, Exhausted) and error.retry_after:
        pause = duration_pb2.Duration()
        pause.FromMilliseconds(math.ceil(1000 * error.retry_after))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=pause))
    return rpc_status.to_status(status)


async def abort(context: Context, error: ServingError) -> NoReturn:
    """End a call with the status of an error; what was to be told at its end anyway is told, too.

    Raises:
        CancelledError: the caller has left in this moment, and nobody is there to be told.
    """
    status = status_of(error)
    trailing = (*context.trailing_metadata(), *(status.trailing_metadata or ()))
    try:
        with suppress(grpc.aio.InternalError):
            await context.abort(status.code, status.details, trailing)
    except grpc.aio.AbortError as aborted:
        get_running_loop().call_soon(let_go, aborted)
        raise
    raise CancelledError


def let_go(error: BaseException) -> None:
    """Free the frames that an error has come through, once nobody looks at them.

    grpc keeps the error of an aborted call in the call, and the frames keep the call: so many circles a
    second that the collector stops everything to undo them.
    """
    error.__traceback__ = error.__context__ = None


def error_of(call: grpc.Call) -> ServingError:
    """The error that a caller's finished call stands for: `status_of` the other way."""
    code, message = call.code().name, printable(call.details() or "no reason was given")
    if code == InvalidArgument.code:
        return _bad_argument(call, message)
    if code == Exhausted.code:
        if found := _LARGER.search(message):
            return _too_large(found, message)
        delay = _detail(call, error_details_pb2.RetryInfo()).retry_delay
        return Exhausted(message, delay.seconds + delay.nanos / 1e9)
    if code == "CANCELLED":  # which nobody here has done who still waits
        return Unavailable(f"the server cut the call: {message}; try again, or go on where it was")
    if code in _BY_CODE:
        return _BY_CODE[code](message)
    return UnexpectedStatus(message, code)


def _bad_argument(call: grpc.Call, message: str) -> ServingError:
    mark = _detail(call, error_details_pb2.ErrorInfo())
    kind = TooLarge if mark.reason == TOO_LARGE.reason else InvalidArgument
    for violation in _detail(call, error_details_pb2.BadRequest()).field_violations:
        return kind(printable(violation.field), printable(violation.description))
    return kind("request", message)


def _too_large(found: re.Match[str], message: str) -> TooLarge:
    """The error that grpc's refusal of a message stands for, which no later attempt mends."""
    subject = "its answer has" if "CLIENT: Received" in message else "has"
    if found[1] is None:
        return TooLarge("request", f"ask for less at a time: {message}")
    size, limit = int(found[1]), int(found[2])
    return TooLarge(
        "request", f"{subject} {size:,} bytes, and may have {limit:,}: ask for less at a time"
    )


def _detail(call: grpc.Call, kind: Detail) -> Detail:
    """The call's detail of the message's kind, or the message as it is."""
    with suppress(ValueError, DecodeError):  # details that somebody on the way has changed
        status = rpc_status.from_call(call)
        for detail in status.details if status else ():
            if detail.Unpack(kind):
                break
    return kind


_BY_CODE: dict[str, type[ServingError]] = {
    kind.code: kind
    for kind in (NotFound, FailedPrecondition, DeadlineExceeded, Unauthenticated, Unavailable)
}
