"""Makes the Python stubs of the protos: `python -m tests.stubs FOLDER`."""

import sys
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

SOURCE = Path(__file__).parent.parent / "proto"


def generate(out: Path) -> None:
    """Write stubs and typed stubs of every proto below `out`."""
    paths = sorted(SOURCE.rglob("*.proto"))
    with_services = [path for path in paths if "\nservice " in path.read_text(encoding="utf-8")]
    compile_(paths, out, ("python", "mypy"))
    compile_(with_services, out, ("grpc_python", "mypy_grpc"))


def compile_(paths: list[Path], out: Path, kinds: tuple[str, ...]) -> None:
    """Have protoc write some kinds of stubs."""
    protos = [str(path.relative_to(SOURCE)) for path in paths]
    include = [f"-I{SOURCE}", f"-I{files('grpc_tools') / '_proto'}"]
    plugins = [
        f"--plugin=protoc-gen-{name}={Path(sys.executable).with_name(f'protoc-gen-{name}')}"
        for name in ("mypy", "mypy_grpc")
    ]
    outputs = [f"--{kind}_out={out}" for kind in kinds]
    if protoc.main(["protoc", *include, *plugins, *outputs, *protos]) != 0:
        raise SystemExit("protoc failed")


if __name__ == "__main__":
    generate(Path(sys.argv[1]))
