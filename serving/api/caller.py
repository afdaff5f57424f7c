"""Who calls: known to all that a call runs, and what rows are shared fairly by."""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc

from serving.api.surrounding import Context, surrounded
from serving.errors import Unauthenticated
from serving.quoting import printable
from serving.tokens import Tokens

if TYPE_CHECKING:
    from serving.api.interceptors import Continuation

OPEN = "/grpc.health.v1.Health/"
"""Methods that need no token: what asks for health is part of a platform and has none."""

_caller: ContextVar[str] = ContextVar("caller", default="")


def caller() -> str:
    """Who the call under way is by: `token:alice`, else `certificate:alice.example`, else `ipv4:10.1.2.3`.

    Empty outside a call.
    """
    return _caller.get()


class CallerInterceptor(grpc.aio.ServerInterceptor):
    """Finds out who calls, and refuses those without a token where tokens are asked for.

    Args:
        tokens: those that are taken; None for everybody.
    """

    def __init__(self, tokens: Tokens | None = None) -> None:
        self._tokens = tokens

    async def intercept_service(
        self,
        continuation: "Continuation",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap a method's handler; see grpc.aio.ServerInterceptor."""
        handler = await continuation(handler_call_details)
        return handler and surrounded(handler, partial(self._identified, handler_call_details))

    @asynccontextmanager
    async def _identified(
        self, details: grpc.HandlerCallDetails, context: Context
    ) -> AsyncIterator[None]:
        """Set the caller; never set back, since each call has a task, and so a context, of its own."""
        if self._tokens is None or details.method.startswith(OPEN):
            _caller.set(peer_of(context.auth_context(), context.peer()))
        else:
            _caller.set(f"token:{self._name(details)}")
        yield

    def _name(self, details: grpc.HandlerCallDetails) -> str:
        assert self._tokens is not None
        given = [value for key, value in details.invocation_metadata if key == "authorization"]
        kind, _, token = str(given[0]).partition(" ") if len(given) == 1 else ("", "", "")
        if kind.lower() != "bearer":
            raise Unauthenticated("a token is needed, in one header 'authorization: Bearer TOKEN'")
        name = self._tokens.name_of(token.strip())
        if name is None:
            raise Unauthenticated("the token is not one that is taken here")
        return name


def peer_of(identity: Mapping[str, Iterable[bytes]], peer: str) -> str:
    """A caller without a token: by its certificate, else by its address without the port.

    Args:
        identity: what TLS found out, ServicerContext.auth_context().
        peer: as ServicerContext.peer() gives it: `ipv4:10.1.2.3:5678`.
    """
    for key in ("x509_subject_alternative_name", "x509_common_name"):
        for name in identity.get(key, ()):
            return f"certificate:{printable(name.decode('utf-8', 'backslashreplace'))}"
    return peer.rpartition(":")[0] if peer.startswith(("ipv4:", "ipv6:")) else peer
