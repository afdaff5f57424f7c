"""Which contexts suit a model: where its rows are, and whether a prefix tree pays."""

from collections.abc import Callable

from serving.engine.contexts import Context, Contexts, Private
from serving.engine.device_session import DeviceSession
from serving.engine.resident import Resident
from serving.engine.sampling import Int64
from serving.engine.stateless import Stateless, is_stateless
from serving.engine.stepping import StepSession
from serving.engine.timed import StepClock, TimedSession
from serving.engine.tree import Tree


def contexts_of(
    session: StepSession,
    root: Context,
    clock: StepClock,
    budget: int,
    most: int,
    in_use: Callable[[], Int64],
) -> Contexts:
    """Contexts whose steps are timed; a model without states takes none, and needs no tree.

    Args:
        session: the model.
        root: after the boundary that starts every string.
        clock: told of every step.
        budget: bytes that a prefix tree may take; 0 for none. A device has none.
        most: rows that may be about at once.
        in_use: the places that rows are at.
    """
    if is_stateless(session.manifest):
        return Stateless(session)
    if isinstance(session, DeviceSession):
        return Resident(session, root, clock)
    timed = TimedSession(session, clock)
    return Tree(timed, root, budget, most, in_use) if budget else Private(timed, root)
