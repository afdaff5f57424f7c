"""Between this program's errors and gRPC's statuses: the one place that knows both."""

import grpc
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from serving.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ServingError,
    Unavailable,
)
from serving.quoting import printable


def status_of(error: ServingError) -> grpc.Status:
    """The status that a caller gets; google.rpc.BadRequest names the field of a bad argument."""
    status = status_pb2.Status(code=code_pb2.Code.Value(error.code), message=printable(str(error)))
    if isinstance(error, InvalidArgument):
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=error.field, description=printable(error.description)
        )
        status.details.add().Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    return rpc_status.to_status(status)


def error_of(call: grpc.Call) -> ServingError:
    """The error that a caller's finished call stands for: `status_of` the other way."""
    code, message = call.code().name, printable(call.details() or "no reason was given")
    if code == InvalidArgument.code:
        return _bad_argument(call, message)
    return _BY_CODE.get(code, ServingError)(message)


def _bad_argument(call: grpc.Call, message: str) -> ServingError:
    status = rpc_status.from_call(call)
    for detail in status.details if status else ():
        bad_request = error_details_pb2.BadRequest()
        if detail.Unpack(bad_request) and bad_request.field_violations:
            violation = bad_request.field_violations[0]
            return InvalidArgument(printable(violation.field), printable(violation.description))
    return InvalidArgument("request", message)


_BY_CODE: dict[str, type[ServingError]] = {
    kind.code: kind for kind in (NotFound, FailedPrecondition, DeadlineExceeded, Unavailable)
}
