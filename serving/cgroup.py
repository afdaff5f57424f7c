"""How much memory this process's container has left, if it is in one (Linux control groups, version 2)."""

import os
import sys
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def memory_left(root: Path = ROOT, membership: Path = MEMBERSHIP) -> int:
    """Bytes that may still be taken before something in the container is ended; sys.maxsize without one.

    Files that are only cached are given up for it, so they count as free.
    """
    try:
        folder = root / _own(membership.read_text(encoding="ascii"))
        most, now = (
            int((folder / f"memory.{name}").read_text(encoding="ascii"))
            for name in ("max", "current")
        )
        cached = _cached((folder / "memory.stat").read_text(encoding="ascii"))
    except (OSError, ValueError):  # no container, or one without a limit, which says "max"
        return sys.maxsize
    return max(most - now + cached, 0)


def memory_total(root: Path = ROOT, membership: Path = MEMBERSHIP) -> int:
    """Bytes of memory that the machine has, or that the container may have if that is less."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        folder = root / _own(membership.read_text(encoding="ascii"))
        return min(machine, int((folder / "memory.max").read_text(encoding="ascii")))
    except (OSError, ValueError):
        return machine


def _own(membership: str) -> str:
    """The group's path below the root: the line of version 2 begins with `0::/`."""
    for line in membership.splitlines():
        if line.startswith("0::/"):
            return line.removeprefix("0::/")
    raise ValueError("no group of version 2")


def _cached(statistics: str) -> int:
    values = dict(line.split() for line in statistics.splitlines())
    return int(values["active_file"]) + int(values["inactive_file"])
