"""The engines' process: whatever it is asked for, it answers and goes on."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from serving.apart.frames import framed, received
from serving.apart.main import House


def nested(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


@contextmanager
def asked(house_class: type[House]) -> Iterator[socket.socket]:
    """The server's end of the connection to a process."""
    ours, theirs = socket.socketpair()
    serving = threading.Thread(target=house_class(theirs).serve)
    serving.start()
    try:
        yield ours
    finally:
        ours.close()
        serving.join()
        theirs.close()


class Faulty(House):
    """Methods that go wrong in every way."""

    def deep(self) -> Any:
        return nested(100_000)

    def unsendable(self) -> Any:
        return threading.Lock()

    def fails(self, error: Exception) -> None:
        raise error

    def good(self) -> str:
        return "good"


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        (["deep"], RecursionError),
        (["unsendable"], TypeError),
        (["no such method"], AttributeError),
        (["good", "an argument too many"], TypeError),
        (["fails", RecursionError("deep")], RecursionError),
        (["fails", MemoryError("large")], MemoryError),
        (["fails", UnicodeDecodeError("utf-8", b"x", 0, 1, "bad")], UnicodeDecodeError),
        (["fails", OverflowError("far")], OverflowError),
        (["fails", EOFError("the model's, not the connection's")], EOFError),
        (["fails", ConnectionResetError("the model's, too")], ConnectionResetError),
    ],
)
def test_whatever_one_question_does_the_next_is_answered(
    question: list[Any], kind: type[Exception]
) -> None:
    with asked(Faulty) as connection:
        connection.sendall(framed((None, False, *question)))
        told, error = received(connection.recv_into)
        assert told == "failed"
        assert isinstance(error, kind)
        connection.sendall(framed((None, False, "good")))
        assert received(connection.recv_into) == ("done", "good")


def test_content_is_the_last_argument() -> None:
    class Counting(House):
        def count(self, first: int, content: bytearray) -> int:
            return first + len(content)

    with asked(Counting) as connection:
        for size in (0, 10**6):
            connection.sendall(framed((size, False, "count", 1)) + b"x" * size)
            assert received(connection.recv_into) == ("done", 1 + size)
