"""One caller with as many large calls at once as it can have: `python -m tests.fault.flood ADDRESS`.

A process of its own, so that it takes no time from whoever measures, and from an address of its own, by which
the server knows it for another caller.
"""

import select
import sys
from contextlib import ExitStack
from random import Random

import click
import grpc

from makemore.v1 import generation_service_pb2 as pb
from serving.limits import MAX_PREFIXES
from tests.fault.raw import RawCalls

METHOD = "/makemore.v1.GenerationService/NextCharacters"
SOURCE = "127.0.0.2"
CONNECTIONS, CALLS = 8, 8
"""Calls at once on each connection: their requests fit into what a connection may send unasked."""


def prefixes(random: Random) -> list[str]:
    """As many as a call may have."""
    return ["".join(random.choices("abcdefghijklmnopqrstuvwxyz", k=4)) for _ in range(MAX_PREFIXES)]


def main(address: str) -> None:
    """Flood a server until this process is killed; a line tells when the first calls were answered."""
    request = pb.NextCharactersRequest(prefixes=prefixes(Random(1)))
    with ExitStack() as stack:
        every = [
            stack.enter_context(RawCalls(address, METHOD, request, 60, SOURCE))
            for _ in range(CONNECTIONS)
        ]
        for connection in every:
            for _ in range(CALLS):
                connection.call()
        answered = 0
        while True:
            for connection in select.select(every, (), ())[0]:
                for code, _ in connection.statuses():
                    connection.call()
                    answered += code is grpc.StatusCode.OK
                    if answered == CALLS:
                        click.echo("flooding")


if __name__ == "__main__":
    main(sys.argv[1])
