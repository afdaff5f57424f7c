"""Doubles for tests: a model without a runtime, and a server inside the process."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from serving.config import ServerConfig
from serving.engine.stepping import States
from serving.manifest import Manifest, StateSpec
from serving.server import Server


class FakeSession:
    """A step graph of plain arithmetic; see StepSession.

    Its state is a hash of the whole text so far and its logits depend on nothing else, so that a state
    that goes to a wrong row, or is not zero at the start, changes what is drawn.

    Attributes:
        rows: how many each step had.
    """

    arithmetic = "fake"

    def __init__(self, alphabet: str = "abc", max_length: int = 8) -> None:
        spec = StateSpec("hash", "hash_in", "hash_out", "int64", (1,))
        self.manifest = Manifest("fake", "fake", tuple(alphabet), max_length, (spec,))
        self.rows: list[int] = []

    def step(
        self, token: npt.NDArray[np.int64], states: States
    ) -> tuple[npt.NDArray[np.float32], States]:
        """Advance every row."""
        self.rows.append(len(token))
        after = (states[0] * 31 + token[:, None] + 1) % 1_000_003  # [B, 1]
        ids = np.arange(1, len(self.manifest.vocabulary) + 1)
        logits = 2 * np.sin(after * ids[None, :])  # [B, V]
        return logits.astype(np.float32), (after,)

    def advance(
        self, token: npt.NDArray[np.int64], states: States
    ) -> tuple[npt.NDArray[np.float32], States]:
        """Advance every row, and spoil what is not to be used any more."""
        logits, after = self.step(token, states)
        for state in states:
            state[:] = -1
        return logits, after


@contextmanager
def running(config: ServerConfig) -> Iterator[Server]:
    """A server in a thread of its own, stopped at the end; its `port` tells where."""
    server = Server(config)
    stopper: Future[Callable[[], object]] = Future()
    thread = threading.Thread(target=lambda: asyncio.run(_serve(server, stopper)), name="server")
    thread.start()
    try:
        stop = stopper.result()
        try:
            yield server
        finally:
            stop()
    finally:
        thread.join()


async def _serve(server: Server, stopper: "Future[Callable[[], object]]") -> None:
    try:
        await server.start()
    except BaseException as error:
        stopper.set_exception(error)
        return
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()
    stopper.set_result(lambda: loop.call_soon_threadsafe(stopping.set))
    await stopping.wait()
    await server.stop(server.config.grace)
