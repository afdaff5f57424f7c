"""Who calls: known to all that a call runs, and what rows are shared fairly by."""

from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING

from serving.api.connections import address_of
from serving.api.surrounding import Context, preceded
from serving.errors import Unauthenticated
from serving.quoting import printable
from serving.tokens import Tokens

if TYPE_CHECKING:
    from serving.api.surrounding import Handler

HEALTH = "grpc.health.v1.Health/"
"""Methods that need no token: what asks for health is part of a platform and has none."""

_caller: ContextVar[str] = ContextVar("caller", default="")


def caller() -> str:
    """Who the call under way is by: `token:alice`, else `certificate:alice.example`, else `ipv4:10.1.2.3`.

    Empty outside a call.
    """
    return _caller.get()


class Callers:
    """A layer that finds out who calls, and refuses those without a token where tokens are asked for.

    Args:
        tokens: those that are taken; None for everybody.
    """

    def __init__(self, tokens: Tokens | None = None) -> None:
        self._tokens = tokens

    def __call__(self, method: str, handler: "Handler") -> "Handler":
        """The handler of a method, inside."""
        is_open = self._tokens is None or method.startswith(HEALTH)
        return preceded(handler, self._note_peer if is_open else self._note_name)

    # What is set is never set back, since each call has a task, and so a context, of its own.

    def _note_peer(self, context: Context) -> None:
        _caller.set(peer_of(context.auth_context(), context.peer()))

    def _note_name(self, context: Context) -> None:
        _caller.set(f"token:{self._name(context.invocation_metadata() or ())}")

    def _name(self, metadata: Iterable[tuple[str, str | bytes]]) -> str:
        assert self._tokens is not None
        given = [value for key, value in metadata if key == "authorization"]
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
    return address_of(peer)
