"""What all calls have in common lies in layers around the methods."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import grpc

if TYPE_CHECKING:
    from serving.api.surrounding import Handler

    Layer = Callable[[str, Handler], Handler]


class Layers(grpc.aio.ServerInterceptor):
    """Lays layers around each method once, when it is first called: anew each time takes as long as a call.

    Args:
        layers: each takes a method's full name and its handler, and gives the handler around it; the
            outermost comes first.
        unknown: called when somebody calls a method that there is not.
    """

    def __init__(self, *layers: "Layer", unknown: Callable[[], object] = lambda: None) -> None:
        self._layers = layers
        self._unknown = unknown
        self._laid: dict[str, Handler] = {}

    async def intercept_service(
        self,
        continuation: "Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """The method's handler inside all layers; see grpc.aio.ServerInterceptor."""
        method = handler_call_details.method
        laid = self._laid.get(method)
        if laid is None:
            laid = await continuation(handler_call_details)
            if laid is None:  # grpc answers it
                self._unknown()
                return None
            for layer in reversed(self._layers):
                laid = layer(method.removeprefix("/"), laid)
            self._laid[method] = laid
        return laid
