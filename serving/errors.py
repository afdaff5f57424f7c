"""Every error that a person or a caller is meant to read.

MakemoreError                what was wrong, where, and what to do; the command ends with `exit_status`
 ├─ ServingError             has a canonical gRPC code by name, so that one table maps them all
 │   ├─ InvalidArgument      the caller's fault: names the field
 │   │   └─ TooLarge         a request, or the answer to it, is larger than a message may be
 │   ├─ NotFound             the caller asked for a model or version that is not there
 │   ├─ FailedPrecondition   the model's files cannot tell what was asked for
 │   ├─ DeadlineExceeded     the caller's time ran out
 │   ├─ Exhausted            too much is asked for at once: try again later
 │   ├─ Unauthenticated      the caller has no token, or not one that is taken
 │   ├─ Unavailable          not ready, or going away: try again
 │   │   └─ NoServer         nothing answers at the address
 │   ├─ UnexpectedStatus     a call ended with a status that none of the others stands for
 │   └─ ClientClosed         a client was used after it was closed
 ├─ BadModel                 a published version that the repository refuses
 │   └─ Undecided            the same, for now: there is no time or memory to judge it
 ├─ NoDevice                 models are to run on a device that is not there, or of no use
 └─ Unwritable               a file that cannot be written

The engine raises these and knows no gRPC type; `serving.api.status` turns them into statuses.
"""

from typing import ClassVar


class MakemoreError(Exception):
    """Base of all errors whose text is written for people."""

    exit_status: ClassVar[int] = 2


class ServingError(MakemoreError):
    """An error that reaches a caller, text and all."""

    code: str = "INTERNAL"


class InvalidArgument(ServingError):
    """A field is out of its range; `field` is its path in the request or its flag's name."""

    code = "INVALID_ARGUMENT"

    def __init__(self, field: str, description: str) -> None:
        super().__init__(f"{field}: {description}")
        self.field = field
        self.description = description


class TooLarge(InvalidArgument):
    """A request, or the answer to it, is larger than a message may be: less must be asked for at a time."""


class NotFound(ServingError):
    """No such model or version."""

    code = "NOT_FOUND"


class FailedPrecondition(ServingError):
    """The model lacks what the request needs."""

    code = "FAILED_PRECONDITION"


class DeadlineExceeded(ServingError):
    """The deadline passed before the answer was complete."""

    code = "DEADLINE_EXCEEDED"


class Exhausted(ServingError):
    """Too much is asked for at once; `retry_after` is in seconds."""

    code = "RESOURCE_EXHAUSTED"
    exit_status = 1

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unauthenticated(ServingError):
    """The call has no token that the server takes."""

    code = "UNAUTHENTICATED"


class Unavailable(ServingError):
    """The server is starting or stopping; the same call may succeed elsewhere or later."""

    code = "UNAVAILABLE"
    exit_status = 1


class NoServer(Unavailable):
    """Nothing answers where a server should be."""


class UnexpectedStatus(ServingError):
    """A call ended with a status that no other class stands for; `code` and the text tell which."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(f"{message} (status {code})")
        self.code = code


class ClientClosed(ServingError):
    """A client was used after it was closed."""

    code = "CANCELLED"

    def __init__(self) -> None:
        super().__init__("the client is closed: make another one for more calls")


class BadModel(MakemoreError):
    """A model's files do not keep the step-graph contract; the text says which and how."""


class Undecided(BadModel):
    """A version that cannot be judged now, for want of time or memory; it is tried again later."""


class NoDevice(MakemoreError):
    """Models cannot run on the device that was asked for; the text says what to do."""


class Unwritable(MakemoreError):
    """A file cannot be written; what was there before is as it was."""

    exit_status = 1
