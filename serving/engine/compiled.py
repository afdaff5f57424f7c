"""The engine's innermost loops in C, where they were compiled; without them, numpy does the same.

They are compiled when the package is installed (`hatch_build.py`), if there is a compiler.
"""

import ctypes
import hashlib
import logging
from functools import cache
from pathlib import Path
from typing import Any

import numpy.typing as npt

log = logging.getLogger(__name__)

SOURCES = sorted(Path(__file__).parent.glob("*.c"))
FILE = Path(__file__).with_name("kernels.compiled")


@cache
def library(file: Path = FILE) -> Any:
    """What was compiled; None if nothing was, or for another kind of machine, or of another source."""
    try:
        sources = b"".join(source.read_bytes() for source in SOURCES)
        digest = hashlib.sha256(sources).hexdigest().encode()
        # Not CDLL: the calls are too short to let go of the interpreter's lock for.
        found = ctypes.PyDLL(str(file))
        if (ctypes.c_char * len(digest)).in_dll(found, "source_digest").value != digest:
            raise ValueError("it was compiled of another source")
    except (OSError, ValueError) as error:
        what = "the engine does without its compiled loops, which takes longer"
        log.warning("%s; install it anew where there is a C compiler: %s", what, error)
        return None
    for name, arguments in _ARGUMENTS.items():
        function = getattr(found, name)
        function.argtypes = [_KINDS[letter] for letter in arguments]
        function.restype = None
    found.enter.restype = found.spare.restype = found.follow.restype = ctypes.c_int64
    return found


_KINDS = {"p": ctypes.c_void_p, "n": ctypes.c_int64, "d": ctypes.c_double}
_ARGUMENTS = {
    "fill_uniforms": "ppn",
    "edges": "pnnpp",
    "exp_each": "pn",
    "log_each": "pn",
    "walk": "p",
    "follow": "p",
    "plan": "ppnnnpp",
    "enter": "ppppnpppdp",
    "arrive": "ppnppp",
    "spare": "ppnnpp",
    "gather": "pnnppppnp",
    "put": "pnnppppnp",
}
"""What each function takes: pointers, whole numbers, doubles."""


def address(array: npt.NDArray[Any]) -> int:
    """Where an array begins; a third of what `array.ctypes.data` takes, but for records."""
    try:
        return ctypes.addressof(ctypes.c_char.from_buffer(array.data))
    except (TypeError, ValueError):  # it may not, or lies in pieces, or is empty
        at: int = array.ctypes.data
        return at
