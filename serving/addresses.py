"""Addresses as people write them: host:port, [host]:port, unix:path."""

import re

_LOOPBACK = re.compile(r"127\.[0-9.]+|localhost|\[::1\]", re.ASCII)


def is_loopback(address: str) -> bool:
    """Whether it is on this machine, so that nobody can listen on the way."""
    return address.startswith("unix:") or bool(_LOOPBACK.fullmatch(address.rpartition(":")[0]))
