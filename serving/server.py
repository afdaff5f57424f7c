"""A server's life: bind, load, warm up, serve, drain."""

import asyncio
import gc
import logging
import signal
from collections.abc import Callable
from importlib import import_module

import grpc

from serving.api.caller import Callers
from serving.api.health import NOT_SERVING, SERVING, HealthServicer
from serving.api.layers import Layers
from serving.api.services import SERVICES, add_services
from serving.api.shield import messages, shielded
from serving.api.slow_readers import SlowReaders
from serving.config import PROCESS, THREAD, ServerConfig
from serving.engine.protocols import Engines
from serving.errors import Unavailable
from serving.forbidden import ForbiddenList
from serving.heap import keep_trimmed
from serving.host import Host
from serving.observe.observation import Observation
from serving.observe.writing import leave_at_once
from serving.options import MAX_CALLS, server_options
from serving.reload import Reloader
from serving.repository import Repository
from serving.tls import server_credentials
from serving.tokens import Tokens
from serving.watchdog import Watchdog

log = logging.getLogger(__name__)

ENGINES = {
    THREAD: "serving.engine.engines.LocalEngines",
    PROCESS: "serving.apart.engines.RemoteEngines",
}
"""Where engines may run, and what starts them there."""
AT_ONCE, FAILED = 1, 3
"""The exit statuses after a second signal, and after an engine has failed or hung."""
AT_ONCE_SIGNAL = signal.SIGUSR1
"""What a worker's parent sends after a second signal of its own."""
LAST_CALLS = 2.0
"""Seconds for the calls of other models once an engine has failed."""


class Server:
    """Serves a repository over gRPC. Building it does nothing; `start` does.

    Attributes:
        port: the port that is bound, once `start` has returned.
        failure: why an engine had failed when the server stopped; empty if none had.
    """

    def __init__(self, config: ServerConfig) -> None:
        self.config = config
        self.port = 0
        self.failure = ""
        engines = engines_of(config)
        repository = Repository(
            config.repository, config.default_model, config.max_rows, engines.open
        )
        forbidden = ForbiddenList(config.forbidden, config.forbidden_file)
        self.host = Host(repository, engines, forbidden)
        self.observation = Observation(config.observe, self.host)
        self._health = HealthServicer()
        self._healthy: set[str] = set()
        self.watchdog = Watchdog(config.watchdog, self.host.running)
        self._reloader = Reloader(config.reload_interval, self._reload)
        self._reloading: asyncio.Task[None] | None = None
        self._server: grpc.aio.Server | None = None
        self._stopping: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Bind the port, load and warm up every model, then say that it is serving.

        Raises:
            InvalidArgument: certificates or tokens cannot be read, or --forbidden does not fit a model.
            NoDevice: models cannot run on the device.
            Unavailable: a port cannot be bound.
            NotFound: there is no model to serve.
        """
        self._health.set("", NOT_SERVING)
        try:
            await self.host.engines.begin()
            self.observation.start()
            self._server = self._build()
            self.port = self._bind(self._server)
            await self._server.start()
            await asyncio.to_thread(self.host.start)
        except BaseException:
            await self.stop(0)
            raise
        if self._stopping is not None:
            return
        self._tell_health()
        self.observation.set_ready(True)
        self._reloading = asyncio.create_task(self._reloader.run())

    def _bind(self, server: grpc.aio.Server) -> int:
        listen, tls = self.config.listen, self.config.tls
        credentials = server_credentials(tls) if tls else grpc.insecure_server_credentials()
        try:
            return server.add_secure_port(listen, credentials)
        except RuntimeError:
            raise Unavailable(
                f"cannot listen on {listen}: the port is in use, or not ours to take; "
                "choose another with --listen"
            ) from None

    def _build(self) -> grpc.aio.Server:
        tokens = Tokens(self.config.token_file) if self.config.token_file else None
        layers = Layers(
            self.observation.layer,
            SlowReaders(self.config.read_timeout),
            shielded,
            Callers(tokens),
            messages,
            unknown=self.observation.layer.unknown,
        )
        server = grpc.aio.server(
            options=server_options(self.config.is_shared),
            maximum_concurrent_rpcs=MAX_CALLS,
        )
        add_services(layers, self.host, self._health, self.config.ahead)
        server.add_generic_rpc_handlers((layers,))
        return server

    @property
    def summary(self) -> str:
        """The models that are served, for people."""
        return ", ".join(model.short_name for model in self.host.models())

    def reload_soon(self) -> None:
        """Look at the repository again, without waiting for the interval's end, and at what was refused."""
        self.host.repository.reconsider()
        self._reloader.ask()

    async def _reload(self) -> None:
        await asyncio.to_thread(self.host.reload)
        self._tell_health()

    def _tell_health(self) -> None:
        """SERVING for the server, its services, its models; NOT_SERVING for models that are gone."""
        names = {"", *SERVICES}
        for model in self.host.models():
            named = f"models/{model.name}"
            names |= {named, model.full_name, *(f"{named}@{alias}" for alias in model.aliases)}
        for name in sorted(names):
            self._health.set(name, SERVING)
        for name in sorted(self._healthy - names):
            self._health.set(name, NOT_SERVING)
        self._healthy = names

    def _end_reloads(self) -> None:
        """Nothing new from now on, nor that a model is healthy."""
        if self._reloading is not None:
            self._reloading.cancel()

    async def lame_duck(self, seconds: float) -> None:
        """Say NOT_SERVING and go on serving, so that callers go elsewhere before anything is refused."""
        self._end_reloads()
        self.observation.set_ready(False)
        self._health.leave()
        await asyncio.sleep(seconds)

    async def stop(self, grace: float) -> None:
        """Say NOT_SERVING, refuse new calls, let those under way finish for `grace` seconds.

        Called again, it waits for the first call's end: grpc's own server crashes when stopped twice.
        """
        if self._stopping is None:
            self._stopping = asyncio.ensure_future(self._stop(grace))
        await asyncio.shield(self._stopping)

    async def _stop(self, grace: float) -> None:
        self._end_reloads()
        self.observation.set_ready(False)
        await self._health.end()
        if self._server is not None:
            await self._server.stop(grace)
        self.failure = self.watchdog.look()
        await asyncio.to_thread(self.host.stop)
        await asyncio.to_thread(self.observation.stop)


def engines_of(config: ServerConfig) -> Engines:
    """What starts engines where they are to run; onnxruntime is only loaded where it is needed."""
    module, _, name = ENGINES[config.engines].rpartition(".")
    made: Engines = getattr(import_module(module), name)(config)
    return made


class Signals:
    """The signals to stop that this process has had.

    Args:
        is_worker: then only AT_ONCE_SIGNAL ends it at once, which its parent sends: whoever stops all
            processes of a service sends SIGTERM to both, and the parent passes its own on.
    """

    def __init__(self, is_worker: bool) -> None:
        self.first, self.second = asyncio.Event(), asyncio.Event()
        self.is_by_hand = False
        self._is_worker = is_worker

    def listen(self) -> None:
        """From now on they come here."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._note, number)
        if self._is_worker:
            loop.add_signal_handler(AT_ONCE_SIGNAL, self.second.set)

    def _note(self, number: int) -> None:
        if self.first.is_set():
            if not self._is_worker:
                self.second.set()
        else:
            self.is_by_hand = number == signal.SIGINT
            self.first.set()


async def run(config: ServerConfig, announce: Callable[[Server], None]) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second signal ends at once. SIGHUP reloads.

    Args:
        config: how to serve.
        announce: called once the server is serving.
    """
    gc.freeze()  # what was imported stays; looking through it holds everything up for a twentieth of a second
    server, signals = Server(config), Signals(config.is_shared)
    signals.listen()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, server.reload_soon)
    starting = asyncio.create_task(server.start())
    stopping, at_once = (asyncio.create_task(s.wait()) for s in (signals.first, signals.second))
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    watching = asyncio.create_task(watch(server))
    trimming = asyncio.create_task(keep_trimmed())
    lame_duck = 0.0
    if starting.done():
        starting.result()
        announce(server)
        await stopping
        lame_duck = 0.0 if signals.is_by_hand else config.lame_duck
    else:
        server.host.give_up()
    leaving = asyncio.create_task(leave(server, lame_duck, config.grace))
    await asyncio.wait({leaving, at_once}, return_when=asyncio.FIRST_COMPLETED)
    if not leaving.done():
        log.warning("stopped at once: calls under way are lost")
        leave_at_once(AT_ONCE)
    if server.host.is_loading:
        log.warning("stopped while a version is being loaded")
        leave_at_once(0)  # whose thread would be waited for
    if server.failure:
        log.critical("%s: the process ends", server.failure)
        leave_at_once(FAILED)
    for task in (at_once, watching, trimming):
        task.cancel()
    await asyncio.gather(leaving, starting, return_exceptions=True)


async def watch(server: Server) -> None:
    """End the process when an engine has failed or hangs, which only a new process mends."""
    try:
        reason = await server.watchdog.run()
    except Exception:
        log.exception("the watchdog failed")
        reason = "engines are not watched"
    log.critical("%s: the process ends", reason)
    await asyncio.wait({asyncio.ensure_future(server.stop(LAST_CALLS))}, timeout=LAST_CALLS + 1)
    leave_at_once(FAILED)


async def leave(server: Server, lame_duck: float, grace: float) -> None:
    """Go on serving for `lame_duck` seconds while health says NOT_SERVING, then drain for `grace` at most."""
    if lame_duck:
        log.info("stopping: everything is served for another %g s", lame_duck)
        await server.lame_duck(lame_duck)
    log.info("stopping: calls under way have %g s; a second signal ends them", grace)
    await server.stop(grace)
