"""What the image installs is what the tests pass with, each file of it known by its hash."""

import re

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import ROOT
from tests.test_packaging import PROJECT

EXTRAS = {"cpu": "serve", "gpu": "serve-gpu"}
RUNTIMES = {"onnxruntime", "onnxruntime-gpu"}


def entries(text: str) -> dict[str, Requirement]:
    """A file's requirements, without comments and hashes, by name."""
    lines = re.findall(r"^([a-z0-9][^\s#\\]*==[^\s#\\]+)", text, re.MULTILINE | re.IGNORECASE)
    return {canonicalize_name(r.name): r for r in map(Requirement, lines)}


def lock(variant: str) -> str:
    return (ROOT / "serving" / f"requirements-{variant}.lock").read_text(encoding="utf-8")


@pytest.mark.parametrize("variant", ["cpu", "gpu", "build"])
def test_every_package_has_hashes_and_the_version_of_the_constraints(variant: str) -> None:
    text = lock(variant)
    pinned = entries((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    found = entries(text)
    assert len(found) >= 5
    for name, requirement in found.items():
        assert re.search(
            rf"^{re.escape(str(requirement))} \\\n +--hash=sha256:", text, re.MULTILINE
        )
        assert pinned.get(name, requirement).specifier == requirement.specifier


@pytest.mark.parametrize("variant", EXTRAS)
def test_a_lock_has_all_that_its_extra_needs(variant: str) -> None:
    """A requirement that is added needs `make lock`."""
    found = entries(lock(variant))
    asked = PROJECT["dependencies"] + PROJECT["optional-dependencies"][EXTRAS[variant]]
    for requirement in map(Requirement, asked):
        pin = found[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(str(pin.specifier).removeprefix("=="))
    assert len(RUNTIMES & set(found)) == 1
    assert not {"torch", "onnx"} & set(found)


def test_the_extras_for_cpu_and_gpu_differ_in_the_runtime_alone() -> None:
    cpu, gpu = (
        {
            r
            for r in map(Requirement, PROJECT["optional-dependencies"][extra])
            if r.name not in RUNTIMES
        }
        for extra in EXTRAS.values()
    )
    assert cpu == gpu
