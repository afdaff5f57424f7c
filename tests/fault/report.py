"""Writes the figures of `make fault` into docs/reliability.md: `python -m tests.fault.report`."""

from benchmarks import tables
from tests.conftest import ROOT
from tests.fault.figures import recorded

PAGE = ROOT / "docs" / "reliability.md"


def rows(figures: dict[str, dict[str, str | float]]) -> list[list[str]]:
    """A line for each fault: its name, and what was seen."""
    return [
        [
            name.replace("_", " "),
            "; ".join(f"{k.replace('_', ' ')} {shown(v)}" for k, v in its.items()),
        ]
        for name, its in figures.items()
    ]


def shown(value: str | float) -> str:
    """A figure for people."""
    return value if isinstance(value, str) else f"{value:,}"


def main() -> None:
    """Put what was recorded into the page."""
    table = tables.markdown(["fault", "what was seen"], rows(recorded()))
    where = tables.circumstances("makemore", "grpcio", "onnxruntime")
    tables.write("figures", f"{table}\n\n{where}", PAGE)


if __name__ == "__main__":
    main()
