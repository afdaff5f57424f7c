"""What engines and the log have counted, read when somebody looks, so that counting costs next to nothing."""

from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from serving.engine import ledger
from serving.engine.figures import Figures
from serving.engine.job import FinishReason, Shortfall
from serving.engine.protocols import AnyEngine
from serving.host import Host
from serving.observe.definitions import ENGINE, PREFIX, SERVER, Definition
from serving.observe.writing import dropped

Labels = tuple[str, ...]
Values = Iterable[tuple[Labels, float]]

FAMILIES: dict[str, Any] = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "histogram": HistogramMetricFamily,
}
LANES = ("light", "heavy")
FIRST_SPAN = 4
"""Steps of less than 2^4 microseconds are told together."""

LEDGER = {
    "jobs_accepted_total": ledger.JOBS_ACCEPTED,
    "jobs_total": ledger.JOBS,
    "samples_accepted_total": ledger.SAMPLES_ACCEPTED,
    "samples_total": ledger.SAMPLES,
    "samples_missing_total": ledger.MISSING,
    "drafts_rejected_total": ledger.REJECTED,
    "characters_total": ledger.CHARACTERS,
}
KINDS, OUTCOMES = ("draw", "read"), ("finished", "cancelled", "expired", "failed")
ZEROS: list[ledger.Key] = [
    *((ledger.JOBS_ACCEPTED, kind) for kind in KINDS),
    *((ledger.JOBS, kind, outcome) for kind in KINDS for outcome in OUTCOMES),
    (ledger.SAMPLES_ACCEPTED,),
    *((ledger.SAMPLES, reason.name.lower()) for reason in FinishReason),
    *((ledger.MISSING, reason) for reason in OUTCOMES[1:]),
    *((ledger.MISSING, reason.name.lower()) for reason in Shortfall),
    *((ledger.REJECTED, name) for name in ledger.REASONS),
    *((ledger.CHARACTERS, kind) for kind in KINDS),
]
"""All that may be counted: what is not told before it first happens is missing from rates."""


class EngineCollector(Collector):
    """Tells Prometheus of every engine of a host."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def describe(self) -> Iterable[Metric]:
        """The names, which need no engine; see prometheus_client."""
        return [family(name, definition) for name, definition in ENGINE.items()]

    def collect(self) -> Iterable[Metric]:
        """See prometheus_client."""
        families = {name: family(name, definition) for name, definition in ENGINE.items()}
        for model, engine in self._host.served():
            labels = (model.name, str(model.version))
            info = (*labels, model.digest, model.manifest.architecture)
            families["model_info"].add_metric(info, 1)
            found = engine.figures()
            for name, values in figures(engine, found):
                for more, value in values:
                    families[name].add_metric((*labels, *more), value)
            add_steps(families["step_seconds"], labels, found)
        families["engines"].add_metric((), len(self._host.running()))
        for result, count in self._host.reloads.items():
            families["reloads_total"].add_metric((result,), count)
        return families.values()


class LogCollector(Collector):
    """Tells Prometheus of the log."""

    def collect(self) -> Iterable[Metric]:
        """See prometheus_client."""
        name = "log_lines_dropped_total"
        lines = family(name, SERVER[name])
        lines.add_metric((), dropped())
        return [lines]


def family(name: str, definition: Definition) -> Any:
    """A metric without values."""
    return FAMILIES[definition.kind](PREFIX + name, definition.help, labels=definition.labels)


def figures(engine: AnyEngine, found: Figures) -> Iterator[tuple[str, Values]]:
    """The values of an engine by metric, each with the labels that come after the model's."""
    counts = found.counts
    every = dict.fromkeys([*ZEROS, *counts])
    for name, what in LEDGER.items():
        yield name, [(key[1:], counts[key]) for key in every if key[0] == what]
    refused = engine.admission.refused
    yield "jobs_refused_total", [((reason,), count) for reason, count in refused.items()]
    yield "calls_spared_total", [((), engine.admission.spared)]
    yield "step_rows_total", [((), found.stepped)]
    yield "rows", [((lane,), n) for lane, n in zip(LANES, found.rows, strict=True)]
    yield "rows_capacity", [((lane,), engine.max_rows) for lane in LANES]
    queues = dict(zip(LANES, engine.admission.queues, strict=True))
    yield "queue_jobs", [((lane,), queue.jobs) for lane, queue in queues.items()]
    yield "queue_characters", [((lane,), queue.work) for lane, queue in queues.items()]
    yield "queue_seconds", [((lane,), q.work / q.rate.value) for lane, q in queues.items()]
    yield "prefix_cache_capacity_bytes", [((), engine.prefix_cache)]
    if tree := found.tree:
        yield "prefix_cache_hits_total", [((), tree.hits)]
        yield "prefix_cache_misses_total", [((), tree.steps)]
        yield "prefix_cache_bytes", [((), tree.bytes_used)]


def add_steps(steps: HistogramMetricFamily, labels: Labels, found: Figures) -> None:
    """The durations of an engine's steps."""
    spans = list(accumulate(found.spans or [0]))
    buckets = [(f"{2**k / 1e6:.6f}", n) for k, n in enumerate(spans[:-1]) if k >= FIRST_SPAN]
    steps.add_metric(labels, [*buckets, ("+Inf", spans[-1])], found.seconds)
