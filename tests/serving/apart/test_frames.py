import pickle
import socket
import threading
from typing import Any

import numpy as np
import pytest

from serving.apart.frames import Frames, framed, framed_plain, pickled, received, sendable
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
