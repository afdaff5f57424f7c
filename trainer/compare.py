"""Runs side by side: how good, how large, how fast."""

import time
from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from serving.engine.sampling import Float64
from serving.engine.session import OrtSession
from serving.engine.stepping import StepSession, initial_states
from serving.quoting import shown
from trainer.data.batches import Part
from trainer.evaluate import string_nlls
from trainer.export import graph
from trainer.run import Run
from trainer.torch_session import bare_manifest

RESAMPLES = 2000
SECONDS = 0.3


@dataclass(frozen=True)
class Standing:
    """One run's row.

    Attributes:
        part: what it was measured on.
        strings: SHA-256 of the part's strings.
        per_character: NLL in nats a character.
        per_string: NLL in nats a string.
        interval: where the mean NLL a string lies with 95 % confidence.
        speed: characters a second of the bare step graph, by rows at once.
    """

    name: str
    architecture: str
    part: str
    strings: str
    per_character: float
    per_string: float
    interval: tuple[float, float]
    parameters: int
    seconds: float
    speed: dict[int, float]


def standing(run: Run) -> Standing:
    """Measure a run on its test part, or its dev part if that is empty."""
    dataset = run.dataset()
    name = "test" if dataset.parts["test"] else "dev"
    part = Part(dataset.parts[name], run.config.vocabulary)
    model = run.load_model()
    nlls = string_nlls(model, part)
    manifest = bare_manifest(run.config, model)
    session = OrtSession(graph.with_manifest(graph.trace(model.for_export()), manifest))
    return Standing(
        name=shown(str(run.path)),
        architecture=run.config.architecture,
        part=name,
        strings=sha256("\n".join(sorted(dataset.parts[name])).encode()).hexdigest(),
        per_character=float(nlls.sum() / part.characters),
        per_string=float(nlls.mean()),
        interval=bootstrap(nlls),
        parameters=model.num_parameters(),
        seconds=run.progress().seconds,
        speed={rows: step_speed(session, rows) for rows in (1, 64)},
    )


def bootstrap(values: Float64, seed: int = 0) -> tuple[float, float]:
    """The 95 % interval of the mean, from resampled means (Efron 1979)."""
    chance = np.random.default_rng(seed)
    means = [chance.choice(values, len(values)).mean() for _ in range(RESAMPLES)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def step_speed(session: StepSession, rows: int) -> float:
    """Characters a second of bare steps, by the median of several bursts."""
    token = np.ones(rows, np.int64)
    bursts = []
    for _ in range(5):
        states = initial_states(session.manifest.states, rows)
        steps, started = 0, time.perf_counter()
        while time.perf_counter() - started < SECONDS / 5:
            _, states = session.step(token, states)
            steps += 1
            if steps % session.manifest.max_length == 0:
                states = initial_states(session.manifest.states, rows)
        bursts.append(steps * rows / (time.perf_counter() - started))
    return float(np.median(bursts))


def table(standings: list[Standing]) -> list[str]:
    """Lines for a person, the best first."""
    width = max(len(standing.name) for standing in standings)
    head = (
        f"{'run':<{width}}  {'part':<5}{'NLL/char':>9}{'NLL/string':>12}{'95 % of it':>17}"
        f"{'parameters':>12}{'trained':>9}{'chars/s x1':>12}{'x64':>11}"
    )
    rows = [
        f"{s.name:<{width}}  {s.part:<5}{s.per_character:>9.4f}{s.per_string:>12.3f}"
        f"{f'{s.interval[0]:.3f}-{s.interval[1]:.3f}':>17}{s.parameters:>12,}"
        f"{f'{s.seconds:,.0f} s':>9}{s.speed[1]:>12,.0f}{s.speed[64]:>11,.0f}"
        for s in sorted(standings, key=lambda s: s.per_character)
    ]
    if len({standing.strings for standing in standings}) > 1:
        rows.append("The runs were measured on different strings: their NLLs cannot be compared.")
    return [head, *rows]
