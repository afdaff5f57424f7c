"""What one call may ask for, and what a server holds by default: numbers that need no package to be read.

The server refuses more than a call may ask for, and the client does not send it.
"""

MAX_N = 1000
MAX_STREAM_N = 100_000
MAX_TEXTS = 4096
MAX_PREFIXES = 1024

PREFIX_CACHE = 64 * 2**20
"""Bytes of a model's prefix tree."""
MAX_QUEUE = 2.0
"""Seconds of light work that may wait, in a burst."""
STANDING_QUEUE = 0.03
"""Seconds of light work that may wait for long."""
