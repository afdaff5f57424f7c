"""The process that tries models out: it may be killed by what it is given, and nothing else may.

It is started by `serving.verification`, reads models from its standard input, and writes a line of JSON
for each. Before each it gives up all memory beyond what the model can need, and it can write no file.
"""

import json
import os
import resource
import sys
from contextlib import suppress
from typing import BinaryIO

from serving.canary import try_out
from serving.cgroup import memory_left
from serving.engine.session import OrtSession
from serving.errors import BadModel
from serving.graph_check import check
from serving.manifest import Manifest
from serving.verification import HEADER

SECONDS = 20
"""Of processor time, for each model."""
MEMORY = 256 * 2**20
"""That a model may take whatever it is like; what its size and states account for comes on top."""
ADDRESSES = 4
"""Address space may grow by so many times that: an allocator reserves more than it uses."""
COPIES = 4
"""How many times a model's file, and the states of all rows, may be in memory."""
SHARE = 0.8
"""The part of what a container has left that may be taken."""
LEAST = 64 * 2**20
"""That may be taken anyway: a container without so much cannot serve the model either."""


def main() -> None:
    """Verify models until there are no more."""
    restrict()
    while header := sys.stdin.buffer.read(HEADER.size):
        length, rows = HEADER.unpack(header)
        answer(*verdict(sys.stdin.buffer, length, rows))


def answer(reason: str, is_short: bool) -> None:
    """Write a verdict: why a model is refused, empty if it is good, and whether memory was short."""
    sys.stdout.write(json.dumps({"reason": reason[:2000], "is_short": is_short}) + "\n")
    sys.stdout.flush()


def verdict(source: BinaryIO, length: int, rows: int) -> tuple[str, bool]:
    """Why the model that comes is refused, empty if it is good, and whether it had too little memory."""
    is_short = False
    try:
        is_short = limit(COPIES * length)
        content = source.read(length)
        try:
            manifest = check(content)
        except BadModel as error:  # which memory has no part in
            return str(error) or "no reason is given", False
        is_short |= limit(COPIES * (length + state_bytes(manifest, rows)))
        try_out(OrtSession(content), rows)
    except BadModel as error:
        return str(error) or "no reason is given", is_short
    except MemoryError:
        return "it takes more memory than it may", is_short
    except Exception as error:  # the runtime raises many kinds
        return f"it fails when tried out: {type(error).__name__}: {error}", is_short
    return "", False


def state_bytes(manifest: Manifest, rows: int) -> int:
    """What the states and logits of so many rows take."""
    states = sum(state.bytes_per_row for state in manifest.states)
    return rows * (states + 4 * len(manifest.vocabulary))


def restrict() -> None:
    """Give up what is never needed: files that can be written, core dumps, descriptors."""
    for kind, most in (
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 16),
    ):
        resource.setrlimit(kind, (most, most))
    with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")  # should memory be short, this process goes first


def limit(more: int) -> bool:
    """Bound the next model's memory to MEMORY and `more`, and its time to SECONDS.

    Returns:
        Whether the memory is less, since the container has no more.
    """
    wanted = MEMORY + more
    allowed = min(wanted, max(LEAST, int(SHARE * memory_left())))
    with suppress(FileNotFoundError):  # systems other than Linux have no /proc, and no such limits
        addresses, data = used()
        bound(resource.RLIMIT_AS, addresses + ADDRESSES * allowed)
        bound(resource.RLIMIT_DATA, data + allowed)
    times = os.times()
    bound(resource.RLIMIT_CPU, int(times.user + times.system) + 1 + SECONDS)
    return allowed < wanted


def bound(kind: int, value: int) -> None:
    """Set a limit that the next model's may be above."""
    _, most = resource.getrlimit(kind)
    resource.setrlimit(kind, (value if most == resource.RLIM_INFINITY else min(value, most), most))


def used() -> tuple[int, int]:
    """Bytes of address space, and of data, that this process has."""
    with open("/proc/self/statm", encoding="ascii") as file:
        pages = [int(word) for word in file.read().split()]
    return pages[0] * resource.getpagesize(), pages[5] * resource.getpagesize()


if __name__ == "__main__":
    main()
