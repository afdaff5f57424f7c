import ctypes
import subprocess
import sys

import pytest

PROGRAM = """
import os
from serving.heap import trim

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

blocks = [bytes(60_000) for _ in range(2000)]
kept = blocks[::50] + blocks[-1:]
del blocks
before = resident()
trim()
print(before - resident(), sum(map(len, kept)))
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="no glibc")
def test_room_between_blocks_that_stay_is_given_back() -> None:
    run = [sys.executable, "-c", PROGRAM]
    freed, _ = map(int, subprocess.run(run, check=True, capture_output=True).stdout.split())
    assert freed > 80_000_000
