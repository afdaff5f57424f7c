"""A bare grpc.aio server that sends streams of as many bytes as ours does, and nothing else: what grpc
itself costs and leaks. `python -m tests.fault.bare` prints its port."""

import asyncio
from typing import Any

import click
import grpc

MESSAGE = b"x" * 2**14
MESSAGES = 200


class Bare(grpc.GenericRpcHandler):
    """Answers Generate with what it was sent, and everything else with a stream."""

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        """See grpc.GenericRpcHandler."""
        if str(details.method).endswith("/Generate"):
            return grpc.unary_unary_rpc_method_handler(self._echo)
        return grpc.unary_stream_rpc_method_handler(self._stream)

    async def _echo(self, request: bytes, context: object) -> bytes:
        return request

    async def _stream(self, request: bytes, context: Any) -> None:
        for _ in range(MESSAGES):  # as serving.api.slow_readers does
            await asyncio.wait_for(context.write(MESSAGE), 30)


async def main() -> None:
    """Serve until the process is ended."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Bare(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    click.echo(f"serving on 127.0.0.1:{port}")
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
