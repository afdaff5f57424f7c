"""Every metric of ours by name: what it counts, its labels, and where it is kept.

`calls.py` counts calls as they come; all that begins with ENGINE is read from the engines when somebody
looks. docs/operations.md tells the same at length.
"""

from dataclasses import dataclass
from typing import Final

PREFIX: Final = "makemore_"
MODEL: Final = ("model", "version")
LANE: Final = (*MODEL, "lane")


@dataclass(frozen=True)
class Definition:
    """A metric.

    Attributes:
        kind: of Prometheus' kinds.
        help: one line.
        labels: their names.
    """

    kind: str
    help: str
    labels: tuple[str, ...] = ()


CALLS: Final = {
    "calls_total": Definition("counter", "Calls that have ended.", ("method", "code")),
    "call_seconds": Definition("histogram", "Time from a call's start to its end.", ("method",)),
    "calls_in_flight": Definition("gauge", "Calls under way, from their headers on.", ("method",)),
    "connections_closed_total": Definition(
        "counter", "Connections closed because they held too much.", ("reason",)
    ),
}
SERVER: Final = {
    "uptime_seconds": Definition("gauge", "Time since the start, whatever the clock says."),
    "ready": Definition("gauge", "1 while /readyz says so."),
    "repository_refused": Definition("gauge", "Things of the repository that are refused."),
    "log_lines_dropped_total": Definition("counter", "Lines that the log lacks."),
    "queue_pressure": Definition("gauge", "How near calls are to being refused, 0 to 1."),
}
ENGINE: Final = {
    "reloads_total": Definition("counter", "Versions swapped in, or refused.", ("result",)),
    "engines": Definition("gauge", "Engines that run, those of retired versions too."),
    "model_info": Definition(
        "gauge", "1 for each version served.", (*MODEL, "digest", "architecture")
    ),
    "rows": Definition("gauge", "Strings that run.", LANE),
    "rows_capacity": Definition("gauge", "Strings that may run at once.", LANE),
    "queue_jobs": Definition("gauge", "Jobs under way.", LANE),
    "queue_characters": Definition("gauge", "Characters of work that have not begun.", LANE),
    "queue_seconds": Definition("gauge", "How long the work that has not begun takes.", LANE),
    "jobs_accepted_total": Definition("counter", "Jobs let in.", (*MODEL, "kind")),
    "jobs_total": Definition("counter", "Jobs that have ended.", (*MODEL, "kind", "outcome")),
    "jobs_refused_total": Definition("counter", "Jobs not let in.", (*MODEL, "reason")),
    "calls_spared_total": Definition("counter", "Calls whose answers were made ahead.", MODEL),
    "samples_accepted_total": Definition("counter", "Samples that accepted jobs ask for.", MODEL),
    "samples_total": Definition("counter", "Samples made.", (*MODEL, "finish_reason")),
    "samples_missing_total": Definition("counter", "Samples never made.", (*MODEL, "reason")),
    "drafts_rejected_total": Definition("counter", "Drafts thrown away.", (*MODEL, "reason")),
    "characters_total": Definition("counter", "Characters drawn or read.", (*MODEL, "kind")),
    "step_seconds": Definition("histogram", "Time of the model's steps.", MODEL),
    "step_rows_total": Definition("counter", "Rows that were stepped.", MODEL),
    "prefix_cache_hits_total": Definition("counter", "Characters found in the cache.", MODEL),
    "prefix_cache_misses_total": Definition("counter", "Characters computed.", MODEL),
    "prefix_cache_bytes": Definition("gauge", "Memory of the prefix cache.", MODEL),
    "prefix_cache_capacity_bytes": Definition("gauge", "Memory that it may take.", MODEL),
}
ALL: Final = CALLS | SERVER | ENGINE
