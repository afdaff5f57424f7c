"""What names the last bits: it tells apart what computes differently, and nothing else."""

import ctypes
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from serving.client import Client
from serving.engine import arithmetic as names
from serving.engine.arithmetic import arithmetic
from serving.engine.runtime import onnxruntime
from serving.engine.session import OrtSession
from serving.engine.stepping import initial_states
from serving.errors import NoDevice
from serving.placement import CUDA, ON_CPU, Placement
from tests.conftest import COMMITTED


def test_a_processor_is_named_by_its_instructions() -> None:
    versions = re.escape(f"onnxruntime {onnxruntime.__version__}, numpy {np.__version__}")
    assert re.fullmatch(
        rf"cpu \w+ [\w+]+, {versions}, (glibc [\d.]+|another libc)", arithmetic(ON_CPU)
    )


def test_threads_are_not_named_and_change_no_bit() -> None:
    assert arithmetic(Placement(threads=4)) == arithmetic(ON_CPU)
    content = (COMMITTED / "names" / "2" / "model.onnx").read_bytes()
    found = []
    for threads in (1, 2, 3):
        session = OrtSession(content, threads)
        states = initial_states(session.manifest.states, 100)
        for token in range(1, 4):
            logits, states = session.step(np.arange(100) % 20 + token, states)
        found.append(logits.tobytes())
    assert found[0] == found[1] == found[2]


def test_sets_of_instructions_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for more in ({}, {"found": ["X86_V3"]}, {"found": ["X86_V3", "X86_V4"]}):
        extensions = {"SIMD Extensions": {"baseline": ["X86_V2"], **more}}
        monkeypatch.setattr(np, "show_config", lambda mode, e=extensions: e)
        found.append(names.instructions())
    assert found == ["X86_V2", "X86_V3", "X86_V3+X86_V4"]


class Driver(SimpleNamespace):
    """CUDA's driver with one GPU, and its libraries."""

    def __init__(self, failure: int = 0) -> None:
        super().__init__()
        self.failure = failure
        self.cublasLtGetVersion = _Version(130100)
        self.cudnnGetVersion = _Version(91500)

    def cuInit(self, flags: int) -> int:
        return self.failure

    def cuDeviceGet(self, device: Any, number: int) -> int:
        return number

    def cuDeviceGetName(self, name: Any, length: int, device: Any) -> int:
        name.value = b"NVIDIA Test 100"
        return 0


class _Version:
    def __init__(self, number: int) -> None:
        self.number = number
        self.restype: Any = None

    def __call__(self) -> int:
        assert self.restype is ctypes.c_size_t
        return self.number


def test_a_gpu_is_named_with_its_rows_and_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda path: Driver())
    monkeypatch.setattr(onnxruntime, "cuda_version", "13.0", raising=False)
    found = [arithmetic(Placement(CUDA, rows=rows)) for rows in (64, 256)]
    gpu = "cuda NVIDIA Test 100, 64 rows a step, cublas 130100, cudnn 91500, cpu "
    assert found[0].startswith(gpu)
    assert found[0].endswith(arithmetic(ON_CPU))
    assert found[1] == found[0].replace("64 rows", "256 rows")


@pytest.mark.parametrize("failure", [100, None])
def test_no_gpu_and_no_driver_are_told(
    monkeypatch: pytest.MonkeyPatch, failure: int | None
) -> None:
    def load(path: str) -> Driver:
        if failure is None:
            raise OSError(f"{path}: cannot open shared object file")
        return Driver(failure)

    monkeypatch.setattr(ctypes, "CDLL", load)
    with pytest.raises(NoDevice, match=r"CUDA failure 100|no driver of a GPU: libcuda"):
        names.gpu()


def test_callers_are_told(client: Client, repository: Path) -> None:
    assert client.get_model("lstm").arithmetic == arithmetic(ON_CPU)
