import pickle
import socket
import threading
from typing import Any

import numpy as np
import pytest

from serving.apart import frames as frames_module
from serving.apart.frames import (
    MAX_ERROR,
    Frames,
    exactly,
    framed,
    framed_plain,
    pickled,
    received,
    sendable,
)
from serving.errors import Exhausted


@pytest.mark.parametrize("is_plain", [True, False])
@pytest.mark.parametrize("size", [1, 7, 1000, 10**6])
def test_messages_come_out_as_they_went_in_however_they_are_cut(size: int, is_plain: bool) -> None:
    messages: list[Any] = [("job", 1, "emma"), [], {"a": np.arange(3).tolist()}, "x" * 3000]
    data = b"".join(map(framed_plain if is_plain else framed, messages))
    frames = Frames(plain=is_plain)
    parts = [data[begin : begin + size] for begin in range(0, len(data), size)]
    assert [message for part in parts for message in frames.feed(part)] == messages


def test_a_message_is_received_whole_and_an_end_is_told() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            ours.sendall(framed(b"x" * 10**5) + framed("next"))
            assert received(theirs.recv_into) == b"x" * 10**5
            assert received(theirs.recv_into) == "next"
        with pytest.raises(EOFError):
            received(theirs.recv_into)


def test_an_error_goes_as_it_is_or_as_what_it_says() -> None:
    exhausted = pickle.loads(pickled(sendable(Exhausted("too much", 2.5))))
    assert (type(exhausted), str(exhausted), exhausted.retry_after) == (Exhausted, "too much", 2.5)
    stuck = sendable(ValueError("here", threading.Lock()))
    assert pickle.loads(pickled(stuck)).args[0].startswith("ValueError: ('here'")


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")

    def __reduce__(self) -> Any:
        raise RecursionError("too deep")


def test_an_error_that_cannot_even_be_described_is_sent_and_a_long_one_cut() -> None:
    assert "does not say" in str(pickle.loads(pickled(sendable(Mute()))))
    long = pickled(sendable(ValueError("x" * 2**20)))
    assert len(long) < MAX_ERROR
    assert "ValueError: xxx" in str(pickle.loads(long))


def test_bytes_for_which_there_is_no_memory_are_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def short(size: int) -> bytearray:
        if size > 2**20:
            raise MemoryError
        return bytearray(size)

    monkeypatch.setattr(frames_module, "bytearray", short, raising=False)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        content = b"x" * (2**20 + 1) + framed("next")
        sender = threading.Thread(target=ours.sendall, args=(content,))
        sender.start()
        with pytest.raises(MemoryError):
            exactly(theirs.recv_into, 2**20 + 1)
        assert received(theirs.recv_into) == "next"
        sender.join()
