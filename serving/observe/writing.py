"""Lines of the log, written by a thread of their own: who logs never waits for who reads.

A pipe that nobody reads, or a disk that hangs, stops whoever writes. The standard library's QueueListener
is not used: its handlers hold a lock while they write, for which the process's end would wait.
"""

import logging
import os
import select
import threading
from queue import SimpleQueue
from typing import Final, NoReturn, TextIO

MOST: Final = 4096
"""Lines that may wait; what comes after is dropped."""
LAST_WORD: Final = 1.0
"""Seconds that the last lines have, lest a reader who is gone hold up the end."""


class Gap:
    """Lines that were dropped, where they would have stood."""

    lines = 0


class LineWriter(logging.Handler):
    """Formats records where they come from, so that they tell of the call under way, and queues them.

    While lines are being dropped, all are, until those that wait have been written: so there is one gap,
    and a line that tells how many it lacks. The queue's lock, unlike those of bounded ones, may be taken
    again by who holds it: a collection of garbage, which logs, may begin anywhere.

    Args:
        stream: written to; None for no one.

    Attributes:
        dropped: lines that were dropped since nobody read, or that could not be written.
    """

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__()
        self.dropped = 0
        self._stream = stream
        self._queue: SimpleQueue[str | Gap | threading.Event | None] = SimpleQueue()
        self._gap: Gap | None = None
        self._untold = 0  # lines that were dropped and that the log does not tell of yet
        self._counting = threading.RLock()
        threading.Thread(target=self._run, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        try:
            self._put(self.format(record))
        except Exception:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Tell in the log, not on the standard error, that a record cannot be formatted."""
        told = (record.pathname, record.lineno)
        self._put(self._told(logging.ERROR, "what %s logs in line %d has no text", *told))

    def flush(self) -> None:
        """Wait until what was logged so far is written, for LAST_WORD seconds at most."""
        done = threading.Event()
        self._queue.put(done)
        done.wait(LAST_WORD)

    def close(self) -> None:
        """Write what waits, if somebody takes it, and no more."""
        self._queue.put(None)
        super().close()

    def _put(self, line: str) -> None:
        with self._counting:
            if self._gap is None and self._queue.qsize() < MOST:
                self._queue.put(line)
                return
            if self._gap is None:
                self._gap = Gap()
                self._queue.put(self._gap)
            self._gap.lines += 1
            self.dropped += 1

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            if isinstance(item, threading.Event):
                item.set()
            elif isinstance(item, str):
                self._write(item)
            else:
                self._close_gap(item)

    def _close_gap(self, gap: Gap) -> None:
        with self._counting:
            self._gap = None
        self._untold += gap.lines
        self._tell()

    def _write(self, line: str) -> None:
        self._tell()
        if not self._is_written(line):
            self._untold += 1
            with self._counting:
                self.dropped += 1

    def _tell(self) -> None:
        text = "%d lines of the log were dropped: nobody read them, or they could not be written"
        if self._untold and self._is_written(self._told(logging.WARNING, text, self._untold)):
            self._untold = 0

    def _told(self, level: int, text: str, *values: object) -> str:
        return self.format(logging.LogRecord(__name__, level, __file__, 0, text, values, None))

    def _is_written(self, line: str) -> bool:
        try:
            write(self._stream, f"{line}\n")
        except (OSError, ValueError):  # a disk that is full, a reader who has gone, a closed stream
            return False
        return True


def write(stream: TextIO | None, text: str) -> None:
    """Write a text past the stream's own buffer, whose lock the end of the process would wait for.

    Raises:
        OSError: it cannot be written.
        ValueError: the stream is closed.
    """
    if stream is None:
        return
    try:
        number = stream.fileno()
    except OSError:  # it is in memory
        stream.write(text)
        return
    data = text.encode(stream.encoding, "backslashreplace")
    while data:
        try:
            data = data[os.write(number, data) :]
        except BlockingIOError:
            select.select([], [number], [])


def leave_at_once(status: int) -> NoReturn:
    """End the process at once, once the log is written if somebody takes it."""
    flush()
    os._exit(status)


def flush() -> None:
    """Have what was logged written, for a bounded time."""
    for handler in logging.getLogger().handlers:
        handler.flush()


def dropped() -> int:
    """The lines that this process's log lacks."""
    return sum(h.dropped for h in logging.getLogger().handlers if isinstance(h, LineWriter))
