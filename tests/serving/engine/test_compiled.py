import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from hatch_build import compile_kernels
from serving.engine import compiled

ROOT = Path(__file__).parents[3]


def test_the_loops_that_are_used_were_compiled_of_what_stands_there() -> None:
    assert compiled.library() is not None


def test_loops_of_another_source_are_not_used(tmp_path: Path) -> None:
    made = tmp_path / "kernels.compiled"
    for changed in compiled.SOURCES:
        other = tmp_path / changed.name
        other.write_text(changed.read_text() + "\n")
        sources = [other if source == changed else source for source in compiled.SOURCES]
        compile_kernels(sources, made)
        compiled.library.cache_clear()
        assert compiled.library(made) is None


@pytest.mark.parametrize("content", [None, b"", b"\x7fELF of another machine"])
def test_what_is_no_library_is_not_used(tmp_path: Path, content: bytes | None) -> None:
    made = tmp_path / "kernels.compiled"
    if content is not None:
        made.write_bytes(content)
    assert compiled.library(made) is None


def test_a_compiler_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / "kernels.compiled"
    compile_kernels(compiled.SOURCES, made)
    before = made.read_bytes()
    monkeypatch.setenv("CC", "false")
    with pytest.raises(subprocess.CalledProcessError):
        compile_kernels(compiled.SOURCES, made)
    assert made.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [made.name]


@pytest.mark.parametrize(("compiler", "kind"), [(None, "linux"), ("/no/compiler", "any")])
def test_a_wheel_has_the_loops_if_there_is_a_compiler_and_is_for_all_machines_if_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiler: str | None, kind: str
) -> None:
    copy = tmp_path / "source"
    names = ("hatch_build.py", "pyproject.toml", "README.md", "LICENSE", ".gitignore")
    copy.mkdir()
    for name in names:
        (copy / name).write_bytes((ROOT / name).read_bytes())
    for folder in ("serving/engine", "trainer", "proto/makemore"):
        (copy / folder).mkdir(parents=True)
    for source in compiled.SOURCES:
        (copy / "serving/engine" / source.name).write_bytes(source.read_bytes())
    if compiler is not None:
        monkeypatch.setenv("CC", compiler)
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=copy, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert kind in wheel.name.split("-")[-1]
    names_there = ZipFile(wheel).namelist()
    assert ("serving/engine/kernels.compiled" in names_there) == (compiler is None)
    assert {f"serving/engine/{source.name}" for source in compiled.SOURCES} <= set(names_there)
