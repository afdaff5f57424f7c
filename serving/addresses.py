"""Addresses as people write them: host:port, [host]:port, unix:path, ipv4:host:port,host:port."""

import re

from serving.errors import InvalidArgument
from serving.quoting import quoted

_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:\[\]/]+):(\d{1,5})", re.ASCII)
_LOOPBACK = re.compile(r"127\.[0-9.]+|localhost|\[::1\]", re.ASCII)

_SCHEME = re.compile(r"ipv[46]:")


def is_loopback(address: str) -> bool:
    """Whether it is on this machine, so that nobody can listen on the way."""
    hosts = [part.rpartition(":")[0] for part in _SCHEME.sub("", address).split(",")]
    return address.startswith("unix:") or all(_LOOPBACK.fullmatch(host) for host in hosts)


def split(field: str, address: str) -> tuple[str, int]:
    """Host, without brackets, and port of an address that is no path; raises InvalidArgument."""
    match = _ADDRESS.fullmatch(address)
    if match is None or int(match[2]) > 65535:
        raise InvalidArgument(field, f"{quoted(address)} is not host:port, such as 127.0.0.1:50051")
    return match[1].strip("[]"), int(match[2])


def joined(host: str, port: int) -> str:
    """The address again."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
