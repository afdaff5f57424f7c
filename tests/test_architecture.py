"""The layout is the architecture: what may import what, and how large a room may be."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

LONGEST = 500
FOLDERS = ("trainer", "serving", "tests", "proto")
SOURCES = [
    path
    for folder in FOLDERS
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "_pb2" not in path.name
]


def imported(path: Path) -> set[str]:
    """The modules that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=names):
                found |= {alias.name for alias in names}
            case ast.ImportFrom(module=str(module)):
                found.add(module)
    return found


def importers(package: str) -> list[str]:
    """The product's files that import a package."""
    return [
        str(path.relative_to(ROOT))
        for path in SOURCES
        if not path.is_relative_to(ROOT / "tests")
        and any(name == package or name.startswith(f"{package}.") for name in imported(path))
    ]


def test_there_is_something_to_look_at() -> None:
    assert len(SOURCES) > 50
    assert importers("serving.errors")


@pytest.mark.parametrize("package", ["torch", "trainer", "onnx", "onnxscript", "rich"])
def test_serving_imports_nothing_of_the_trainer(package: str) -> None:
    allowed = {"rich": {"serving/cli/status.py"}}.get(package, set())
    found = {path for path in importers(package) if not path.startswith("trainer/")}
    assert found == allowed


def test_importing_all_of_serving_brings_in_neither_torch_nor_the_trainer() -> None:
    program = (
        "import importlib, pkgutil, sys, serving\n"
        "for module in pkgutil.walk_packages(serving.__path__, 'serving.'):\n"
        "    if module.name != 'serving.__main__': importlib.import_module(module.name)\n"
        "assert 'serving.engine' in sys.modules\n"
        "sys.exit(bool({'torch', 'trainer', 'onnx'} & set(sys.modules)))\n"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0


def test_a_server_leaves_the_runtime_to_the_process_of_its_engines() -> None:
    program = (
        "import sys, serving.server, serving.apart.engines\n"
        "sys.exit(bool({'onnxruntime', 'serving.engine.engine'} & set(sys.modules)))\n"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0


def test_one_file_imports_the_runtime_and_few_beside_it_know_it() -> None:
    assert importers("onnxruntime") == ["serving/engine/runtime.py"]
    assert importers("serving.engine.runtime") == [
        "serving/engine/arithmetic.py",
        "serving/engine/devices.py",
        "serving/engine/moves.py",
    ]


@pytest.mark.parametrize("folder", ["engine", "constraints"])
def test_what_makes_strings_knows_no_grpc(folder: str) -> None:
    files = list((ROOT / "serving" / folder).glob("*.py"))
    assert len(files) > 5
    known = {name.split(".")[0] for file in files for name in imported(file)}
    assert not known & {"grpc", "asyncio", "makemore"}


def test_the_scheduler_has_no_tensors() -> None:
    assert "numpy" not in imported(ROOT / "serving" / "engine" / "scheduler.py")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_has_at_most_500_lines(path: Path) -> None:
    assert path.read_text(encoding="utf-8").count("\n") <= LONGEST


def test_nothing_is_measured_by_the_time_of_day() -> None:
    """Which an operator, or a time server, may set back. The validity of certificates is a time of day."""
    wall_clocks = {
        ("time", "time"),
        ("datetime", "now"),
        ("time", "time_ns"),
        ("datetime", "utcnow"),
    }
    files = [path for path in SOURCES if path.is_relative_to(ROOT / "serving")]
    found = {
        str(path.relative_to(ROOT))
        for path in files
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and (node.value.id, node.attr) in wall_clocks
    }
    assert len(files) > 50
    assert found == {"serving/tls_proof.py"}


@pytest.mark.parametrize("command", ["generate", "score", "next", "top", "health"])
def test_a_command_that_calls_a_server_needs_nothing_of_the_servers(command: str) -> None:
    """`pip install .` is the client alone: neither numpy nor the runtime comes with it."""
    code = (
        f"import sys, serving.cli.{command}; print({{'numpy', 'onnxruntime'}} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def has_encoding(call: ast.Call) -> bool:
    """Whether a call that opens a text file says in which encoding; True for other calls."""
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    given = {keyword.arg for keyword in call.keywords}
    if name in ("read_text", "write_text"):
        # `files.write_text(path, text)` is ours, and always writes UTF-8.
        is_ours = name == "write_text" and len(call.args) == 2
        return is_ours or "encoding" in given
    values = [*call.args, *(keyword.value for keyword in call.keywords)]
    modes = [ast.literal_eval(value) for value in values if is_mode(value)]
    is_method = isinstance(call.func, ast.Attribute)  # `Run.open(path)` opens no file
    if name != "open" or (is_method and call.args and not modes):
        return True
    return bool(modes and "b" in modes[0]) or "encoding" in given


def is_mode(node: ast.AST) -> bool:
    """Whether a constant is a mode of `open`."""
    if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
        return False
    return set(node.value) <= set("rwaxbt+")


def test_files_are_written_and_read_in_one_encoding_whatever_the_locale() -> None:
    paths = [path for path in SOURCES if not path.is_relative_to(ROOT / "tests")]
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in paths
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and not has_encoding(node)
    ]
    assert found == []
