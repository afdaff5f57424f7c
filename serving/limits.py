"""What one call may ask for: the server refuses more, the client does not send it."""

MAX_N = 1000
MAX_STREAM_N = 100_000
MAX_TEXTS = 4096
MAX_PREFIXES = 1024
