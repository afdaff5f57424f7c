"""Putting a measured table where it belongs, in benchmarks/README.md or on another page."""

import os
import platform
import re
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from trainer import files

README = Path(__file__).parent / "README.md"


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def beside(what: str, peer: str, ours: float, theirs: float, unit: str) -> list[str]:
    """A line of a table: both figures and their ratio."""
    return [what, peer, f"{ours:,.0f}", f"{theirs:,.0f} {unit}", f"{ours / theirs:.2f}"]


def circumstances(*packages: str) -> str:
    """When, on what and with what."""
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    processor = _processor()
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {processor}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, {versions}."
    )


def _processor() -> str:
    try:
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    except OSError:
        found = None
    return found[1] if found else platform.machine()


def write(name: str, text: str, page: Path = README) -> None:
    """Replace what stands between the marks of a table."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, _, rest = page.read_text(encoding="utf-8").partition(begin)
    _, _, after = rest.partition(end)
    files.write_text(page, f"{before}{begin}\n\n{text}\n\n{end}{after}")
