"""What the tests of failure measured: a file each, from which `docs/reliability.md` is written."""

import json
import os
from pathlib import Path

from tests.conftest import ROOT

FOLDER = ROOT / "build" / "fault"


def record(name: str, **figures: str | float) -> None:
    """Keep the figures of one fault, in the place of those that an earlier run left.

    Args:
        name: of the fault, as a file can be called: `reload`, `artifacts`.
        figures: by what they are, in words with `_` between them: `calls_a_second=431.0`.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    beside = FOLDER / f".{name}.{os.getpid()}.part"
    beside.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    beside.replace(FOLDER / f"{name}.json")


def recorded(folder: Path = FOLDER) -> dict[str, dict[str, str | float]]:
    """Every fault's figures by its name, in the names' order."""
    return {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("*.json"))
    }
