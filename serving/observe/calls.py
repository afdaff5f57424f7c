"""What is seen of each call: how many, how long, how they end, and an identifier that goes back."""

import logging
import re
import secrets
from asyncio import CancelledError
from collections.abc import Iterable
from contextvars import ContextVar
from functools import partial
from itertools import count
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

import grpc
import structlog

from serving.api.caller import caller
from serving.api.surrounding import Context, surrounded
from serving.observe.metrics import OTHER, MethodMetrics, Metrics

if TYPE_CHECKING:
    from serving.api.surrounding import Handler

HEADER: Final = "x-request-id"
WELL_FORMED: Final = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}", re.ASCII)

_START: Final = secrets.token_hex(6)
_NUMBERS: Final = count(1)
_request_id: ContextVar[str] = ContextVar("request_id", default="")
_access = structlog.stdlib.get_logger("serving.access")


def request_id() -> str:
    """That of the call under way; empty outside of one."""
    return _request_id.get()


def id_of(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """The caller's own identifier of a call, if it is well-formed, else a new one."""
    for key, value in metadata:
        if key == HEADER and isinstance(value, str) and WELL_FORMED.fullmatch(value):
            return value
    return f"{_START}-{next(_NUMBERS)}"


class Observing:
    """A layer that counts every call; the outermost of all, since it sees how the others let a call end.

    Args:
        metrics: where they are counted.
        is_logged: whether each call is logged when it ends.
    """

    def __init__(self, metrics: Metrics, *, is_logged: bool = False) -> None:
        self._metrics = metrics
        self._is_logged = is_logged

    def __call__(self, method: str, handler: "Handler") -> "Handler":
        """The handler of a method, inside."""
        return surrounded(handler, partial(Call, method, self._metrics.of(method), self._is_logged))

    def unknown(self) -> None:
        """Count a call of a method that there is not."""
        metrics = self._metrics.of(OTHER)
        metrics.end(metrics.begin(), grpc.StatusCode.UNIMPLEMENTED.name)


class Call:
    """One call, from its start to its end."""

    __slots__ = ("_begun", "_context", "_is_logged", "_method", "_metrics")

    def __init__(
        self, method: str, metrics: MethodMetrics, is_logged: bool, context: Context
    ) -> None:
        self._method = method
        self._metrics = metrics
        self._is_logged = is_logged
        self._context = context
        self._begun = 0.0

    async def __aenter__(self) -> None:
        self._begun = self._metrics.begin()
        made = id_of(self._context.invocation_metadata() or ())
        _request_id.set(made)  # never set back: each call has a task, and so a context, of its own
        self._context.set_trailing_metadata(((HEADER, made),))

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        code = code_of(self._context, error)
        seconds = self._metrics.end(self._begun, code)
        if self._is_logged:
            level = logging.INFO if code != "INTERNAL" else logging.ERROR
            _access.log(
                level,
                "call",
                method=self._method,
                code=code,
                seconds=round(seconds, 6),
                caller=caller(),
            )


def code_of(context: Context, error: BaseException | None) -> str:
    """The canonical code by which a call has ended."""
    if isinstance(error, CancelledError | GeneratorExit):
        remaining = context.time_remaining()
        is_late = remaining is not None and remaining <= 0
        return "DEADLINE_EXCEEDED" if is_late else "CANCELLED"
    code: Any = context.code()
    if isinstance(code, grpc.StatusCode):
        return code.name
    return "OK" if error is None else "UNKNOWN"
