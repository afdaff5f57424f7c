"""The configuration of a server: checked when built."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from serving import addresses, checks
from serving.cgroup import memory_total
from serving.errors import InvalidArgument
from serving.limits import MAX_QUEUE, PREFIX_CACHE, STANDING_QUEUE
from serving.observe.config import ObserveConfig
from serving.placement import CPU, Placement
from serving.quoting import quoted
from serving.text_files import Line
from serving.tls import TlsFiles

THREAD, PROCESS = "thread", "process"
LISTEN = "127.0.0.1:50051"
_SIZE = re.compile(r"(\d{1,9}) ?(KiB|MiB|GiB)?", re.ASCII)
_UNITS = {"": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


@dataclass(frozen=True)
class ServerConfig:
    """How to serve.

    Attributes:
        repository: the folder of published models.
        listen: host:port, of which every address is bound, or unix:path; port 0 takes a free one.
        default_model: what a request without a model means; empty for the only one there is.
        max_rows: strings that one model runs at once, 2 to 4,096.
        threads: of onnxruntime, for each model; 1 is best for small ones.
        device: where models run: `cpu`, or `cuda`.
        prefix_cache: bytes that each model's prefix tree may take; 0 does without, as a GPU always does. None
            is 64 MiB on a CPU.
        ahead: strings that are drawn at a time, at most, ahead of calls that come often; 0 for none, and no
            more than 2,048 characters or half of `max_rows`.
        engines: where models run: in a `thread` of this process each, or all in a `process` beside it.
        forbidden: substrings that no string may have, whoever calls, with their lines in the file.
        forbidden_file: the file that they are from, for messages.
        is_shared: other processes listen on the same port.
        max_queue: seconds of work that may wait for each model before calls are refused.
        read_timeout: seconds for which a stream's reader may take nothing before it is cut.
        lame_duck: seconds after SIGTERM in which all is still served while health says NOT_SERVING.
        tls_certificate: PEM file of the server's certificate and its chain; None serves without TLS.
        tls_key: PEM file of its private key.
        tls_client_ca: PEM file of the authorities whose certificates clients must have; None asks for none.
        token_file: names and tokens of those who may call, see serving.tokens; None lets everybody.
        grace: seconds that calls under way have after the lame duck.
        watchdog: seconds without a step, while work waits, after which a model hangs and the process ends;
            0 waits for ever.
        reload_interval: seconds between two looks at the repository; 0 looks when it is told to alone.
        observe: what is to be seen of it.
    """

    repository: Path
    listen: str = LISTEN
    default_model: str = ""
    max_rows: int = 256
    threads: int = 1
    device: str = CPU
    prefix_cache: int | None = None
    ahead: int = 128
    engines: str = THREAD
    forbidden: tuple[Line, ...] = ()
    forbidden_file: Path | None = None
    is_shared: bool = False
    max_queue: float = MAX_QUEUE
    read_timeout: float = 30.0
    lame_duck: float = 1.0
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    token_file: Path | None = None
    grace: float = 30.0
    watchdog: float = 30.0
    reload_interval: float = 5.0
    observe: ObserveConfig = field(default_factory=ObserveConfig)

    def __post_init__(self) -> None:
        addresses.check_listen("listen", self.listen)
        self.placement  # noqa: B018 - built to be checked
        checks.whole("prefix_cache", self.tree_bytes, 0, memory_total())
        if self.tree_bytes and self.device != CPU:
            raise InvalidArgument(
                "prefix_cache", f"must be 0 with device {self.device}, whose states stay there"
            )
        if not all(line.text for line in self.forbidden):
            raise InvalidArgument("forbidden", "has an empty entry, which every string contains")
        checks.whole("ahead", self.ahead, 0, 1024)
        checks.real("max_queue", self.max_queue, STANDING_QUEUE, 86400.0)
        checks.real("read_timeout", self.read_timeout, 0.1, 86400.0)
        checks.real("lame_duck", self.lame_duck, 0.0, 86400.0)
        checks.real("grace", self.grace, 0.0, 86400.0)
        checks.real("watchdog", self.watchdog, 0.0, 86400.0)
        checks.real("reload_interval", self.reload_interval, 0.0, 86400.0)
        self._check_security()

    def _check_security(self) -> None:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise InvalidArgument("tls_key", "and tls_certificate are given together or not at all")
        if self.tls_certificate is None and self.tls_client_ca is not None:
            raise InvalidArgument("tls_client_ca", "needs tls_certificate and tls_key")
        if self.token_file and not self.tls_certificate and not addresses.is_loopback(self.listen):
            raise InvalidArgument(
                "token_file",
                f"needs tls_certificate and tls_key: on {quoted(self.listen)}, whoever is on the way "
                "could read the tokens",
            )

    @property
    def placement(self) -> Placement:
        """Where models run."""
        return Placement(self.device, self.threads, self.max_rows)

    @property
    def tree_bytes(self) -> int:
        """Bytes for each model's prefix tree."""
        if self.prefix_cache is None:
            return PREFIX_CACHE if self.device == CPU else 0
        return self.prefix_cache

    @property
    def tls(self) -> TlsFiles | None:
        """The files of TLS; None without it."""
        if self.tls_certificate is None or self.tls_key is None:
            return None
        return TlsFiles(self.tls_certificate, self.tls_key, self.tls_client_ca)


def parse_size(field: str, text: str) -> int:
    """Bytes from `64MiB`, `512KiB`, `1GiB` or a bare number; raises InvalidArgument."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise InvalidArgument(field, f"{quoted(text)} is no size such as 64MiB")
    return int(match[1]) * _UNITS[match[2] or ""]
