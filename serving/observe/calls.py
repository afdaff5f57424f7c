"""What is seen of each call: how many, how long, how they end, and an identifier that goes back."""

import logging
import re
import secrets
from asyncio import CancelledError
from collections.abc import Iterable
from functools import partial
from itertools import count
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

import grpc

from serving.api.caller import caller
from serving.api.surrounding import Context, surrounded
from serving.observe import notes
from serving.observe.metrics import OTHER, MethodMetrics, Metrics
from serving.observe.structured import structlog

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from serving.api.surrounding import Handler
    from serving.observe.tracing import Tracing

HEADER: Final = "x-request-id"
WELL_FORMED: Final = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}", re.ASCII)

DEADLINE_MARGIN: Final = 0.1
"""Seconds by which a client's own timer, which cancels the call, may be ahead of ours."""

_START: Final = secrets.token_hex(6)
_NUMBERS: Final = count(1)
_access = structlog.stdlib.get_logger("serving.access")


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
        tracing: makes a span of each call; None for none.
    """

    def __init__(
        self, metrics: Metrics, *, is_logged: bool = False, tracing: "Tracing | None" = None
    ) -> None:
        self._metrics = metrics
        self._is_logged = is_logged
        self._tracing = tracing

    def __call__(self, method: str, handler: "Handler") -> "Handler":
        """The handler of a method, inside."""
        return surrounded(handler, partial(self._call, method, self._metrics.of(method)))

    def _call(self, method: str, metrics: MethodMetrics, context: Context) -> "Call":
        if self._is_logged or self._tracing:
            return ToldCall(method, metrics, context, self._is_logged, self._tracing)
        return Call(method, metrics, context)

    def unknown(self) -> None:
        """Count a call of a method that there is not."""
        metrics = self._metrics.of(OTHER)
        metrics.end(metrics.begin(), grpc.StatusCode.UNIMPLEMENTED.name)


class Call:
    """One call, from its start to its end: counted."""

    def __init__(self, method: str, metrics: MethodMetrics, context: Context) -> None:
        self.method = method
        self.metrics = metrics
        self.context = context
        self._begun = 0.0

    async def __aenter__(self) -> None:
        request_id = id_of(self.context.invocation_metadata() or ())
        self.context.set_trailing_metadata(((HEADER, request_id),))
        self.begin(request_id)
        self._begun = self.metrics.begin()  # the last, since what raises here is not ended

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        code = code_of(self.context, error)
        self.end(code, self.metrics.end(self._begun, code))

    def begin(self, request_id: str) -> None:
        """It has begun."""
        notes.begin(request_id, None)

    def end(self, code: str, seconds: float) -> None:
        """It has ended."""


class ToldCall(Call):
    """One that is told of, too: in the log, in a trace, or both."""

    def __init__(
        self,
        method: str,
        metrics: MethodMetrics,
        context: Context,
        is_logged: bool,
        tracing: "Tracing | None",
    ) -> None:
        super().__init__(method, metrics, context)
        self._is_logged = is_logged
        self._tracing = tracing
        self._span: Span | None = None
        self._notes: dict[str, Any] = {}

    def begin(self, request_id: str) -> None:
        """See Call."""
        notes.begin(request_id, self._notes)
        if self._tracing is not None:
            metadata = self.context.invocation_metadata() or ()
            peer = self.context.peer()
            self._span = self._tracing.begin(self.method, metadata, request_id, peer)

    def end(self, code: str, seconds: float) -> None:
        """See Call."""
        told = {"caller": caller(), **self._notes}
        if self._tracing is not None and self._span is not None:
            self._tracing.end(self._span, code, told)
        if self._is_logged:
            level = logging.ERROR if code == "INTERNAL" else logging.INFO
            what = {"method": self.method, "code": code, "seconds": round(seconds, 6)}
            _access.log(level, "call", **what, **told)


def code_of(context: Context, error: BaseException | None) -> str:
    """The canonical code by which a call has ended."""
    code: Any = context.code()
    if isinstance(code, grpc.StatusCode) and code is not grpc.StatusCode.OK:
        return code.name
    if isinstance(error, CancelledError | GeneratorExit):
        remaining = context.time_remaining()
        is_late = remaining is not None and remaining <= DEADLINE_MARGIN
        return "DEADLINE_EXCEEDED" if is_late else "CANCELLED"
    return "OK" if error is None else "UNKNOWN"
