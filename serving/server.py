"""A server's life: bind, load, warm up, serve, drain."""

import asyncio
import gc
import logging
import signal
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import NoReturn

import grpc

from serving.addresses import with_port
from serving.api.caller import Callers
from serving.api.health import NOT_SERVING, SERVING, HealthServicer
from serving.api.layers import Layers
from serving.api.services import SERVICES, add_services
from serving.api.shield import messages, shielded
from serving.api.transport import Transport
from serving.config import PROCESS, THREAD, ServerConfig
from serving.engine.protocols import Engines
from serving.forbidden import ForbiddenList
from serving.heap import keep_trimmed
from serving.host import Host
from serving.listening import claimed, refusal
from serving.observe.observation import Observation
from serving.observe.writing import leave_at_once
from serving.options import server_options
from serving.reload import Reloader
from serving.repository import Repository
from serving.signals import SignalThread
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
"""The exit statuses after a second signal, and after something has failed or hung."""
AT_ONCE_SIGNAL = signal.SIGUSR1
"""What a worker's parent sends after a second signal of its own."""
LAST_CALLS = 2.0
"""Seconds for the calls of other models once an engine has failed."""
LAST_SECONDS = 5.0
"""Seconds after the grace in which the process has ended, whatever hangs."""


class Server:
    """Serves a repository over gRPC. Building it does nothing; `start` does.

    Attributes:
        port: the port that is bound, once `start` has returned; 0 on a Unix socket.
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
        self._transport = Transport(config.read_timeout, self.observation.metrics.connection_closed)
        self._watching: asyncio.Task[None] | None = None
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
            self._watching = asyncio.create_task(self._transport.watch(self.port))
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
        with claimed("listen", listen, self.config.is_shared) as found:
            for address in found:
                try:
                    port = server.add_secure_port(address, credentials)
                except RuntimeError:  # taken since it was claimed
                    raise refusal("listen", listen, f"{address} cannot be bound") from None
        return 0 if address.startswith("unix:") else port

    def _build(self) -> grpc.aio.Server:
        tokens = Tokens(self.config.token_file) if self.config.token_file else None
        layers = Layers(
            self.observation.layer,
            shielded,
            Callers(tokens),
            self._transport,
            messages,
            unknown=self.observation.layer.unknown,
        )
        server = grpc.aio.server(options=server_options(self.config.is_shared))
        add_services(layers, self.host, self._health, self.config.ahead)
        server.add_generic_rpc_handlers((layers,))
        return server

    @property
    def address(self) -> str:
        """The address that is served, with the port that is bound."""
        return with_port(self.config.listen, self.port)

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
        if self._watching is not None:
            self._watching.cancel()
        self.failure = self.watchdog.look()
        await asyncio.to_thread(self.host.stop)
        await asyncio.to_thread(self.observation.stop)


def engines_of(config: ServerConfig) -> Engines:
    """What starts engines where they are to run; onnxruntime is only loaded where it is needed."""
    module, _, name = ENGINES[config.engines].rpartition(".")
    made: Engines = getattr(import_module(module), name)(config)
    return made


class Signals(SignalThread):
    """The signals of a server; a context manager of the main thread, for whose time they are handled.

    The first one to stop also bounds the end: a timer ends the process if the drain does not.

    Args:
        config: of the server. In a worker only AT_ONCE_SIGNAL ends the process at once, which its parent
            sends: whoever stops all processes of a service sends SIGTERM to both, and the parent passes
            its own on.
        reload: called in the event loop at SIGHUP.
    """

    def __init__(self, config: ServerConfig, reload: Callable[[], object]) -> None:
        at_once = (AT_ONCE_SIGNAL,) if config.is_shared else ()
        super().__init__(self._note, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, *at_once))
        self.first = asyncio.Event()
        self.is_by_hand = False
        self._config = config
        self._reload = reload
        self._loop = asyncio.get_running_loop()
        self._is_stopping = False

    def _note(self, number: int) -> None:
        if number == signal.SIGHUP:
            self._soon(self._reload)
        elif number == AT_ONCE_SIGNAL or (self._is_stopping and not self._config.is_shared):
            log.warning("stopped at once: calls under way are lost")
            leave_at_once(AT_ONCE)
        elif not self._is_stopping:
            self._is_stopping = True
            self.is_by_hand = number == signal.SIGINT
            lame_duck = 0.0 if self.is_by_hand else self._config.lame_duck
            seconds = lame_duck + self._config.grace + LAST_SECONDS
            self.set_timer(seconds, partial(self._end, seconds))
            self._soon(self.first.set)

    def _soon(self, do: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(do)

    def _end(self, seconds: float) -> None:
        log.critical("something hangs: not stopped within %g s; the process ends", seconds)
        leave_at_once(FAILED)


async def run_and_leave(config: ServerConfig, announce: Callable[[Server], None]) -> NoReturn:
    """Run a server, then end the process without waiting for any thread that hangs."""
    await run(config, announce)
    leave_at_once(0)


async def run(config: ServerConfig, announce: Callable[[Server], None]) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second signal ends at once. SIGHUP reloads.

    Args:
        config: how to serve.
        announce: called once the server is serving.
    """
    gc.freeze()  # what was imported stays; looking through it holds everything up for a twentieth of a second
    server = Server(config)
    with Signals(config, server.reload_soon) as signals:
        await _run(server, signals, announce)


async def _run(server: Server, signals: Signals, announce: Callable[[Server], None]) -> None:
    config = server.config
    starting = asyncio.create_task(server.start())
    stopping = asyncio.create_task(signals.first.wait())
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
    await leave(server, lame_duck, config.grace)
    if server.host.is_loading:
        log.warning("stopped while a version is being loaded")
        leave_at_once(0)  # whose thread would be waited for
    if server.failure:
        log.critical("%s: the process ends", server.failure)
        leave_at_once(FAILED)
    for task in (watching, trimming):
        task.cancel()
    await asyncio.gather(starting, return_exceptions=True)


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
