"""The devices that onnxruntime may run a graph on, and whether it does when it was told to."""

import contextlib
import io
import re
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from serving.engine.runtime import onnxruntime
from serving.errors import NoDevice
from serving.placement import CPU, CUDA

PROVIDERS: dict[str, tuple[str, dict[str, str]]] = {
    CPU: ("CPUExecutionProvider", {}),
    CUDA: (
        "CUDAExecutionProvider",
        {
            "device_id": "0",
            "use_tf32": "0",  # it would round what is multiplied to 10 bits
            "cudnn_conv_algo_search": "DEFAULT",  # the others race, and not always the same one wins
            "arena_extend_strategy": "kSameAsRequested",  # many models share the memory
        },
    ),
}
"""What onnxruntime is given for each device."""

INSTALL = "pip uninstall -y onnxruntime onnxruntime-gpu, then pip install 'makemore[serve-gpu]'"


def check_packages(device: str) -> None:
    """Raise NoDevice unless the onnxruntime that is installed is one for the device, and whole."""
    if device == CPU:
        return
    if _is_installed("onnxruntime") and _is_installed("onnxruntime-gpu"):
        raise NoDevice(
            f"{device} was asked for, but onnxruntime and onnxruntime-gpu are both installed, and each has "
            f"overwritten files of the other: {INSTALL}"
        )
    if PROVIDERS[device][0] not in onnxruntime.get_available_providers():
        raise NoDevice(
            f"{device} was asked for, but the onnxruntime that is installed is built without it: "
            f"{INSTALL}; or serve with --device cpu"
        )


def session_options(threads: int) -> Any:
    """Options for many small steps: few threads, none of them spinning between steps."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def device_options() -> Any:
    """Options for the same on a device: the same bits each time, and it is told what runs where."""
    options = session_options(1)
    options.enable_mem_pattern = False  # not tried there
    options.use_deterministic_compute = True
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    return options


def open_graph(graph: bytes, device: str, options: Any) -> Any:
    """An onnxruntime session of a graph, on the device and not on another instead.

    Raises:
        NoDevice: onnxruntime cannot use the device.
        Exception: of many kinds, if the graph cannot be loaded.
    """
    if device == CUDA:
        _preload()
    provider = PROVIDERS[device]
    try:
        session = onnxruntime.InferenceSession(
            graph, options, providers=[provider], enable_fallback=0
        )
    except RuntimeError as error:
        if failure := re.search(r"CUDA failure \d+: [^;]+", str(error)):
            raise NoDevice(_unusable(device, failure[0].strip())) from error
        raise
    if provider[0] not in session.get_providers():
        raise NoDevice(_unusable(device, "its libraries or the driver's are not found"))
    return session


def runner(session: Any, binding: Any) -> Callable[[], None]:
    """Takes the step of a binding: past onnxruntime's own wrapper, if that is as it was.

    What that looks at, for a kind of device that is never one of ours, takes as long as two operators, and to
    make options for every step as long as four.
    """
    try:
        run, bound = session._sess.run_with_iobinding, binding._iobinding
    except AttributeError:
        return partial(session.run_with_iobinding, binding)
    return partial(run, bound, onnxruntime.RunOptions())


def left_on_the_host(session: Any, device: str) -> list[str]:
    """The operators of a session that have no kernel for the device, and would run on the CPU."""
    here = PROVIDERS[device][0]
    parts = session.get_provider_graph_assignment_info()
    nodes = [node for part in parts if part.ep_name != here for node in part.get_nodes()]
    return sorted({node.op_type for node in nodes})


def _preload() -> None:
    """Load CUDA's libraries from where pip puts them; what is missing, onnxruntime tells on its own."""
    with contextlib.redirect_stdout(io.StringIO()):
        onnxruntime.preload_dlls()


def _unusable(device: str, reason: str) -> str:
    built_for = getattr(onnxruntime, "cuda_version", "")
    return (
        f"{device} was asked for, but onnxruntime cannot use it: {reason}. See that nvidia-smi shows a "
        f"GPU and a driver for CUDA {built_for} or later, and that pip install 'makemore[serve-gpu]' has "
        "brought CUDA's libraries; or serve with --device cpu"
    )


def _is_installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True
