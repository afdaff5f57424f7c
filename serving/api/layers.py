"""What all calls have in common lies in layers around the methods."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import grpc

if TYPE_CHECKING:
    from serving.api.surrounding import Handler

    Layer = Callable[[str, Handler], Handler]


class Layers(grpc.GenericRpcHandler):
    """Services in the place of a server that they are added to, each of their methods inside all layers.

    Those are laid when a method is first called: anew each time would take as long as a call, and so much as
    an interceptor of grpc's takes a thirtieth of it.

    Args:
        layers: each takes a method's full name and its handler, and gives the handler around it; the
            outermost comes first.
        unknown: called when somebody calls a method that there is not.
    """

    def __init__(self, *layers: "Layer", unknown: Callable[[], object] = lambda: None) -> None:
        self._layers = layers
        self._unknown = unknown
        self._services: list[grpc.GenericRpcHandler] = []
        self._laid: dict[str, Handler] = {}

    def add_generic_rpc_handlers(self, services: Iterable[grpc.GenericRpcHandler]) -> None:
        """See grpc.Server."""
        self._services += services

    def add_registered_method_handlers(self, service: str, handlers: Any) -> None:
        """See grpc.Server: they are the same once more, which grpc.aio has no use for."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "Handler | None":
        """The method's handler inside all layers; see grpc.GenericRpcHandler."""
        method = handler_call_details.method
        laid = self._laid.get(method)
        if laid is None:
            every = (service.service(handler_call_details) for service in self._services)
            laid = next((handler for handler in every if handler is not None), None)
            if laid is None:  # grpc answers it
                self._unknown()
                return None
            for layer in reversed(self._layers):
                laid = layer(method.removeprefix("/"), laid)
            self._laid[method] = laid
        return laid
