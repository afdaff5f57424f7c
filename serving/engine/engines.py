"""Engines of this process: where sessions are opened, and engines started."""

from serving.config import ServerConfig
from serving.constraints.taken import Known
from serving.engine.engine import Engine
from serving.engine.opening import open_session, require
from serving.engine.stepping import StepSession
from serving.errors import Unavailable


class LocalEngines:
    """Starts engines in threads; see Engines.

    Args:
        config: how they are to run.
    """

    pid = 0

    def __init__(self, config: ServerConfig) -> None:
        self._config = config

    async def begin(self) -> None:
        """See Engines."""

    def require(self) -> None:
        """See Engines."""
        require(self._config.device)

    def open(self, model: bytes) -> StepSession:
        """See Engines."""
        return open_session(model, self._config.placement)

    def start(self, session: StepSession, name: str, known: Known | None = None) -> Engine:
        """See Engines."""
        config = self._config
        engine = Engine(session, config.max_rows, config.tree_bytes, config.max_queue, name)
        engine.start()
        return engine

    def restart(self) -> str:
        """See Engines."""
        raise Unavailable("engines in threads have no process that could be started again")

    def stop(self) -> None:
        """See Engines."""
