"""Signals that are handled in a thread of their own, whatever the main thread waits for."""

import math
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, Self


class SignalThread:
    """Calls a function for each signal that comes, one at a time; a context manager of the main thread.

    Python calls handlers in the main thread, between two instructions, and asyncio calls its own when the
    event loop turns: a thread that is stuck, or a loop that is blocked, would hold up the end of the
    process. But the number of each signal is written to a file descriptor at once, and is read there.

    Args:
        handle: called with the number of each.
        numbers: of the signals; where they were blocked, they are not any more.
    """

    def __init__(self, handle: Callable[[int], object], numbers: Collection[int]) -> None:
        self._handle = handle
        self._numbers = frozenset(numbers)
        self._before: dict[int, Any] = {}
        self._wakeup = self._output = -1
        self._due = math.inf
        self._act: Callable[[], object]

    def __enter__(self) -> Self:
        ours, self._output = os.pipe()
        os.set_blocking(self._output, False)
        self._wakeup = signal.set_wakeup_fd(self._output, warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, _ignore) for number in self._numbers}
        threading.Thread(target=self._run, args=(ours,), name="signals", daemon=True).start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._numbers)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._output)  # which ends the thread

    def after(self, seconds: float, act: Callable[[], object]) -> None:
        """Have the thread call a function, unless this is over by then; it replaces one that is due."""
        self._act = act
        self._due = time.monotonic() + seconds  # last, since the thread may look in between
        with suppress(BlockingIOError):  # the thread has much to read already
            os.write(self._output, b"\0")  # which is no signal, and has the thread look at the time

    def _run(self, ours: int) -> None:
        with open(ours, "rb", buffering=0) as numbers:
            poll = select.poll()
            poll.register(numbers, select.POLLIN)
            while True:
                left = self._due - time.monotonic()
                if left <= 0:
                    self._due = math.inf
                    self._act()
                elif poll.poll(None if left == math.inf else math.ceil(1e3 * left)):
                    if not (number := numbers.read(1)):
                        return
                    if number[0] in self._numbers:
                        self._handle(number[0])


def _ignore(number: int, frame: FrameType | None) -> None:
    """Do nothing: a signal without a handler of Python's is not told to the thread."""
