"""What is made of files, made anew when they change: certificates, tokens."""

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from serving.errors import MakemoreError
from serving.quoting import printable

log = logging.getLogger(__name__)

T = TypeVar("T")
Signature = list[tuple[int, int, int] | None]
RETRY = 5.0
"""Seconds after which what could not be used is tried again, since what was wrong may have passed."""


class Watched(Generic[T]):
    """A value that follows its files. What cannot be made of them is logged, and the old value stays.

    Nothing waits for a change: whoever asks for the value looks. That costs a stat of each file. A new value
    is made in a thread of its own, so that files which are slow to read or to check hold nobody up for long.

    Args:
        paths: of the files; links are followed, so that a link may be turned to new files.
        make: reads them; raises MakemoreError or OSError.
        patience: seconds that whoever asks for the value waits for a new one.

    Raises:
        MakemoreError, OSError: as `make`, which is called once at the start.
    """

    def __init__(self, paths: Sequence[Path], make: Callable[[], T], patience: float = 2.0) -> None:
        self._paths = paths
        self._make = make
        self._patience = patience
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._signature = self._look()
        self._retry_at = math.inf
        self._reason = ""
        self._value = make()

    def current(self) -> T:
        """The value that the files have now, or the one before if that takes too long; from any thread."""
        if self._lock.acquire(blocking=False):  # whoever comes meanwhile gets the old value
            try:
                self._follow()
            finally:
                self._lock.release()
        return self._value

    def _follow(self) -> None:
        if self._thread is not None and self._thread.is_alive():
            return
        signature = self._look()  # before reading, so that a change while reading is seen next time
        is_news = signature != self._signature
        if not is_news and time.monotonic() < self._retry_at:
            return
        thread = threading.Thread(target=self._remake, args=(is_news,), name="watched", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the machine has no more threads: tried again next time
            return
        self._signature, self._thread = signature, thread
        thread.join(self._patience)

    def _remake(self, is_news: bool) -> None:
        names = printable(", ".join(map(str, self._paths)))
        try:
            self._value = self._make()
        except (MakemoreError, OSError) as error:
            self._retry_at = time.monotonic() + RETRY
            if is_news or str(error) != self._reason:
                self._reason = str(error)
                log.error(
                    "%s changed and cannot be used, what was there before stays: %s", names, error
                )
        else:
            self._retry_at = math.inf
            log.info("%s changed and was read again", names)

    def _look(self) -> Signature:
        return [_signature(path) for path in self._paths]


def _signature(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_ctime_ns, found.st_size
