"""What decides the last bits of logits: the same name, the same bits.

Named are the versions of what computes, and what they choose their kernels by: the instructions of the
processor, or the GPU and how many rows a step has there. Threads are not among them; a kernel gives each
row and column to one thread alone.
"""

import ctypes
import platform

import numpy as np

from serving.engine.runtime import onnxruntime
from serving.errors import NoDevice
from serving.placement import CPU, Placement


def arithmetic(placement: Placement) -> str:
    """The name of what computes: `cpu x86_64 X86_V3, onnxruntime 1.32.0, numpy 2.4.6, glibc 2.36`."""
    host = f"cpu {platform.machine()} {instructions()}"
    # onnxruntime has tanh from it
    library = " ".join(platform.libc_ver()).strip() or "another libc"
    runtime = f"onnxruntime {onnxruntime.__version__}, numpy {np.__version__}, {library}"
    if placement.device == CPU:
        return f"{host}, {runtime}"
    return f"{gpu()}, {placement.rows} rows a step, {libraries()}, {host}, {runtime}"


def instructions() -> str:
    """The sets of instructions that numpy finds here, as it calls them; the draws are computed with them."""
    extensions = np.show_config(mode="dicts")["SIMD Extensions"]
    return "+".join(extensions.get("found") or extensions["baseline"])


def gpu() -> str:
    """The first GPU's name, from the driver.

    Raises:
        NoDevice: there is no driver, or no GPU.
    """
    name, device = ctypes.create_string_buffer(128), ctypes.c_int()
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise NoDevice(f"there is no driver of a GPU: {error}") from None
    failed = (
        driver.cuInit(0)
        or driver.cuDeviceGet(ctypes.byref(device), 0)
        or driver.cuDeviceGetName(name, len(name), device)
    )
    if failed:
        raise NoDevice(f"the driver has no GPU: CUDA failure {failed}")
    return f"cuda {name.value.decode()}"


def libraries() -> str:
    """The versions of the libraries that multiply on a GPU; onnxruntime has them loaded."""
    major = onnxruntime.cuda_version.partition(".")[0]
    blas = ctypes.CDLL(f"libcublasLt.so.{major}").cublasLtGetVersion
    dnn = ctypes.CDLL("libcudnn.so.9").cudnnGetVersion
    blas.restype = dnn.restype = ctypes.c_size_t
    return f"cublas {blas()}, cudnn {dnn()}"
