"""Asked for a GPU and not getting it: what is said, and that nothing is served on the CPU instead."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from serving.config import ServerConfig
from serving.engine import devices, opening
from serving.engine.runtime import onnxruntime
from serving.errors import InvalidArgument, NoDevice
from serving.graph_picking import picking_graph
from serving.placement import CPU, CUDA, Placement
from tests.conftest import COMMITTED
from tests.serving.process import SERVE

HAS_CUDA = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
no_cuda = pytest.mark.skipif(HAS_CUDA, reason="this onnxruntime is built with CUDA")


@no_cuda
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_server_that_cannot_have_the_gpu_does_not_start(workers: str) -> None:
    flags = ["--device", "cuda", "--workers", workers, "--listen", "127.0.0.1:0"]
    command = [*SERVE, "--repository", str(COMMITTED), *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    said = done.stderr.splitlines()[-1]
    assert "cuda was asked for, but the onnxruntime that is installed is built without it" in said
    assert "pip install 'makemore[serve-gpu]'" in said
    assert "--device cpu" in said
    assert "Traceback" not in done.stderr


@no_cuda
def test_a_session_that_falls_back_to_the_cpu_is_refused() -> None:
    with (
        pytest.warns(UserWarning, match="'CUDAExecutionProvider' is not in available"),
        pytest.raises(NoDevice, match=r"libraries or the driver's are not found.*nvidia-smi"),
    ):
        devices.open_graph(picking_graph([((1,), "float32")]), CUDA, devices.device_options())


def test_a_driver_that_is_too_old_is_told_in_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        failure = "CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version ; GPU=-1 ;"
        raise RuntimeError(f"provider_options_utils.h:187 Parse Failed: {failure} hostname=vm")

    monkeypatch.setattr(onnxruntime, "InferenceSession", fail)
    with pytest.raises(
        NoDevice, match=r"it: CUDA failure 35: .* runtime version\. See that nvidia"
    ):
        devices.open_graph(b"", CUDA, devices.device_options())


def test_two_runtimes_that_overwrite_each_other_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "version", lambda package: "1.31.1")
    with pytest.raises(
        NoDevice, match=r"both installed.*pip uninstall -y onnxruntime onnxruntime-gpu"
    ):
        opening.require(CUDA)


def test_a_cpu_needs_nothing() -> None:
    opening.require(CPU)


@pytest.mark.parametrize("given", [{"device": "tpu"}, {"threads": 0}, {"rows": 1}])
def test_a_placement_out_of_range_is_refused_by_name(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Placement(**given)
    assert caught.value.field == {"rows": "max_rows"}.get(next(iter(given)), next(iter(given)))


def test_a_gpu_has_no_prefix_tree_and_says_so() -> None:
    assert ServerConfig(Path()).tree_bytes == 64 * 2**20
    assert ServerConfig(Path(), device=CUDA).tree_bytes == 0
    assert ServerConfig(Path(), device=CUDA, prefix_cache=0).tree_bytes == 0
    with pytest.raises(InvalidArgument, match="prefix_cache: must be 0 with device cuda"):
        ServerConfig(Path(), device=CUDA, prefix_cache=1)
