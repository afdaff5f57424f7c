"""Addresses as people write them: host:port, [host]:port, unix:path, ipv4:host:port,host:port."""

import re

_LOOPBACK = re.compile(r"127\.[0-9.]+|localhost|\[::1\]", re.ASCII)

_SCHEME = re.compile(r"ipv[46]:")


def is_loopback(address: str) -> bool:
    """Whether it is on this machine, so that nobody can listen on the way."""
    hosts = [part.rpartition(":")[0] for part in _SCHEME.sub("", address).split(",")]
    return address.startswith("unix:") or all(_LOOPBACK.fullmatch(host) for host in hosts)
