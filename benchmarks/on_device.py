"""The engine on a device beside bare steps there."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks import peers
from benchmarks.peers import Work
from benchmarks.serving import brief_run, row, step_graph, warm
from serving.engine import devices
from serving.engine.device_session import DeviceSession
from serving.engine.stateless import is_stateless
from serving.engine.stepping import initial_states
from serving.placement import Placement
from trainer.models import MODELS
from trainer.models.base import STANDARD

STRINGS = 32
"""For each row."""

Row = list[str]


def rows(device: str, folder: Path, count: int) -> Iterator[Row]:
    """Every architecture that takes steps, with its default shape, so many rows a step."""
    placement = Placement(device, rows=count)
    for name in MODELS:
        content = step_graph(brief_run(folder, name, {}, 2), name, STANDARD)
        session = DeviceSession(content, placement)
        if is_stateless(session.manifest):
            continue
        what = f"{name}, {count} rows, {device}"
        with warm(session, count, STRINGS * count, 0) as work:
            ours, bound, run = peers.rates(work, bound_steps(session), run_steps(content, session))
        yield row(what, "bare steps, states bound there", ours, bound)
        yield row(what, "bare session.run, states through the host", ours, run)


def bound_steps(session: DeviceSession) -> Work:
    """Steps whose states stay on the device, without sampling."""
    slab, token = session.slab(), np.ones(session.rows, np.int64)
    zeros = initial_states(session.manifest.states, session.rows)

    def work() -> int:
        session.mover.fill(slab.front, zeros)
        for _ in range(session.manifest.max_length):
            session.take(slab, token)
        return session.rows * session.manifest.max_length

    return work


def run_steps(content: bytes, session: DeviceSession) -> Work:
    """Steps of `session.run` with arrays of the host, as one would begin."""
    manifest = session.manifest
    bare = devices.open_graph(content, session.placement.device, devices.device_options())
    zeros = initial_states(manifest.states, session.rows)
    names = ["logits", *(spec.output for spec in manifest.states)]

    def work() -> int:
        states = zeros
        for _ in range(manifest.max_length):
            feed = dict(zip((spec.input for spec in manifest.states), states, strict=True))
            feed["token"] = np.ones(session.rows, np.int64)
            _, *states = bare.run(names, feed)
        return session.rows * manifest.max_length

    return work
