"""Stubs are those of the protos, versions agree, and what is installed is what is needed."""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

from tests import stubs
from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
STUBS = ("*_pb2*.py", "*_pb2*.pyi")


def floor(name: str) -> Version:
    """The lowest version that the project allows of one of its core requirements."""
    requirement = next(r for r in map(Requirement, PROJECT["dependencies"]) if r.name == name)
    return next(Version(s.version) for s in requirement.specifier if s.operator == ">=")


def test_the_committed_stubs_are_what_the_protos_give(tmp_path: Path) -> None:
    stubs.generate(tmp_path)
    made, committed = contents(tmp_path), contents(ROOT / "proto")
    assert len(made) >= 10
    assert made == committed


def contents(folder: Path) -> dict[Path, str]:
    """What the stubs below a folder hold."""
    return {
        path.relative_to(folder): path.read_text()
        for pattern in STUBS
        for path in folder.rglob(pattern)
    }


def test_the_oldest_runtimes_allowed_can_run_the_stubs() -> None:
    """Generated code refuses a runtime that is older than its generator."""
    folder = ROOT / "proto"
    for path in folder.rglob("*_pb2.py"):
        found = re.search(r"# Protobuf Python Version: (\S+)", path.read_text())
        assert found is not None
        assert Version(found[1]) <= floor("protobuf")
    for path in folder.rglob("*_pb2_grpc.py"):
        found = re.search(r"GRPC_GENERATED_VERSION = '(\S+)'", path.read_text())
        assert found is not None
        assert Version(found[1]) <= floor("grpcio")


def test_every_requirement_is_pinned_for_make_and_ci() -> None:
    pins = {
        Requirement(line).name.lower().replace("_", "-"): Requirement(line)
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    }
    extras = PROJECT["optional-dependencies"].values()
    for text in (*PROJECT["dependencies"], *(line for extra in extras for line in extra)):
        requirement = Requirement(text)
        if requirement.name == "makemore":
            continue
        pin = pins[requirement.name.lower()]
        assert requirement.specifier.contains(next(iter(pin.specifier)).version)


def test_the_changelog_begins_with_the_version_that_is_installed() -> None:
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    released = [heading for heading in headings if heading != "Unreleased"]
    assert headings.index(released[0]) <= 1
    assert released[0] == PROJECT["version"] == version("makemore")


def test_the_two_ways_to_serve_differ_in_the_runtime_alone() -> None:
    extras = PROJECT["optional-dependencies"]
    cpu, gpu = (set(map(Requirement, extras[name])) for name in ("serve", "serve-gpu"))
    assert {requirement.name for requirement in cpu - gpu} == {"onnxruntime"}
    assert {requirement.name for requirement in gpu - cpu} == {"onnxruntime-gpu"}
    others = [line for name, lines in extras.items() if name != "serve-gpu" for line in lines]
    assert not any("gpu" in line for line in others)  # so that no other extra brings both


def test_serving_installs_without_the_trainers_packages() -> None:
    names = {Requirement(line).name for line in PROJECT["optional-dependencies"]["serve"]}
    assert not names & {"torch", "onnx", "onnxscript", "rich", "makemore"}
