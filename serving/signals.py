"""Signal handling in a dedicated thread, independent of what blocks the main thread."""

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
    """Calls a function for each signal received, one at a time; a context manager of the main thread.

    Python runs handlers in the main thread, between two instructions, and asyncio runs its handlers in the
    event loop: a stuck thread or a blocked loop would delay the end of the process. The number of each
    signal, however, is written to the wakeup file descriptor immediately, from which this thread reads it.

    Args:
        handle: called with the number of each signal.
        numbers: the signals to handle; they are unblocked.
    """

    def __init__(self, handle: Callable[[int], object], numbers: Collection[int]) -> None:
        self._handle = handle
        self._numbers = frozenset(numbers)
        self._previous_handlers: dict[int, Any] = {}
        self._previous_wakeup_fd = self._write_end = -1
        self._due = math.inf
        self._timer_action: Callable[[], object]

    def __enter__(self) -> Self:
        read_end, self._write_end = os.pipe()
        os.set_blocking(self._write_end, False)
        self._previous_wakeup_fd = signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        self._previous_handlers = {
            number: signal.signal(number, _ignore) for number in self._numbers
        }
        threading.Thread(target=self._run, args=(read_end,), name="signals", daemon=True).start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._numbers)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._previous_wakeup_fd)
        os.close(self._write_end)  # end of file ends the thread

    def set_timer(self, seconds: float, action: Callable[[], object]) -> None:
        """Have the thread call a function after a delay; replaces the timer that was set before, if any."""
        self._timer_action = action
        self._due = time.monotonic() + seconds  # last, since the thread may check it in between
        with suppress(BlockingIOError):  # the pipe is full, so the thread is awake
            os.write(self._write_end, b"\0")  # not a signal: wakes the thread to check its timer

    def _run(self, read_end: int) -> None:
        with open(read_end, "rb", buffering=0) as numbers:
            poll = select.poll()
            poll.register(numbers, select.POLLIN)
            while True:
                left = self._due - time.monotonic()
                if left <= 0:
                    self._due = math.inf
                    self._timer_action()
                elif poll.poll(None if left == math.inf else math.ceil(1e3 * left)):
                    if not (number := numbers.read(1)):
                        return
                    if number[0] in self._numbers:
                        self._handle(number[0])


def _ignore(number: int, frame: FrameType | None) -> None:
    """Do nothing: only signals with a Python handler are written to the wakeup descriptor."""
