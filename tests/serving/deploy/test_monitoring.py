"""Alerts, the dashboard and the manual name what there is, and leave nothing out."""

import json
import re
from collections.abc import Iterator
from typing import Any

import grpc
import promql_parser
import pytest
import yaml

from serving.cli.serve import command
from serving.observe.collector import LANES, ZEROS
from serving.observe.definitions import ALL, PREFIX, Definition
from tests.conftest import ROOT

DEPLOY = ROOT / "serving" / "deploy"
MANUAL = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
RULES = [
    rule
    for group in yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
]
DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
OTHERS = {
    "up",
    "process_resident_memory_bytes",
    "process_open_fds",
    "process_max_fds",
    "process_cpu_seconds_total",
    "engines_process_resident_memory_bytes",
    "engines_process_cpu_seconds_total",
}
SCRAPED = {"job", "instance"}
TARGETS = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]
EXPRESSIONS = [*((rule["alert"], rule["expr"]) for rule in RULES), *TARGETS]


def selectors(node: Any) -> Iterator[Any]:
    """The vector selectors of a parsed expression."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    for name in ("expr", "lhs", "rhs", "vector_selector", "param"):
        if (child := getattr(node, name, None)) is not None:
            yield from selectors(child)
    for child in getattr(node, "args", None) or ():
        yield from selectors(child)


def definition(name: str) -> Definition | None:
    """Of the metric that has a series of this name."""
    short = name.removeprefix(PREFIX)
    for suffix in ("", "_bucket", "_count", "_sum"):
        found = ALL.get(short.removesuffix(suffix) if suffix else short)
        if found and (not suffix or found.kind == "histogram"):
            return found
    return None


def parsed(expression: str) -> Any:
    return promql_parser.parse(expression.replace("$__rate_interval", "1m"))


@pytest.mark.parametrize(("title", "expression"), EXPRESSIONS)
def test_an_expression_names_only_metrics_and_labels_that_there_are(
    title: str, expression: str
) -> None:
    found = list(selectors(parsed(expression)))
    assert {s.name for s in found} == set(
        re.findall(r"\b(?:makemore|(?:engines_)?process)_\w+|\bup\b", expression)
    )
    labels = set(SCRAPED)
    for selector in found:
        about = definition(selector.name)
        assert about or selector.name in OTHERS, selector.name
        own = {*SCRAPED, *(about.labels if about else ()), "le"}
        assert {m.name for m in selector.matchers.matchers} <= own
        labels |= own
    for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression):
        assert set(re.split(r",\s*", group)) <= labels


def test_a_metric_that_there_is_not_would_be_noticed() -> None:
    (selector,) = selectors(parsed("sum(rate(makemore_nothing_total[5m]))"))
    assert definition(selector.name) is None
    assert definition("makemore_calls_total_bucket") is None
    assert definition("makemore_call_seconds_bucket") is not None


def test_values_that_are_looked_for_can_come() -> None:
    known = {part for key in ZEROS for part in key} | {*LANES, "accepted", "refused", "makemore"}
    known |= {code.name for code in grpc.StatusCode}
    wanted = {
        value
        for _, expression in EXPRESSIONS
        for values in re.findall(r'\w+=~?"([A-Za-z_|]+)"', expression)
        for value in values.split("|")
    }
    assert len(wanted) > 4
    assert wanted <= known


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_is_explained_and_says_how_urgent_it_is(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert f"- **{rule['alert']}.**" in MANUAL
    used = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    kept = re.findall(r"\bby \(([^)]*)\)", rule["expr"])
    if kept:
        assert used <= set(re.split(r",\s*", kept[0]))


def test_the_manual_explains_no_alert_that_there_is_not() -> None:
    explained = re.findall(r"^- \*\*(Makemore\w+)\.\*\*", MANUAL, re.MULTILINE)
    assert explained == [rule["alert"] for rule in RULES]


@pytest.mark.parametrize("name", ALL)
def test_the_manual_tells_of_every_metric_with_its_labels(name: str) -> None:
    (row,) = re.findall(rf"^\| `{PREFIX}{name}` \| (\w+)(?:: ([^|]+))? \|", MANUAL, re.MULTILINE)
    labels = ", ".join(ALL[name].labels)
    assert row == (ALL[name].kind, labels)


def test_the_manual_tells_of_no_metric_that_there_is_not() -> None:
    named = set(re.findall(r"`(makemore_\w+)`", MANUAL))
    assert named == {PREFIX + name for name in ALL}


@pytest.mark.parametrize("option", command.params, ids=lambda option: str(option.name))
def test_the_manual_tells_of_every_flag(option: Any) -> None:
    (flag,) = option.opts
    rows = [line for line in MANUAL.splitlines() if line.startswith("| `--")]
    assert any(f"`{flag}`" in row.split("|")[1] for row in rows)


def test_the_manual_tells_of_no_flag_that_there_is_not() -> None:
    told = {
        flag
        for line in MANUAL.splitlines()
        if line.startswith("| `--")
        for flag in re.findall(r"`(--[a-z-]+)`", line.split("|")[1])
    }
    assert told == {flag for option in command.params for flag in option.opts}


@pytest.mark.parametrize("path", re.findall(r"\]\((?!http)([^)#]+)", MANUAL))
def test_a_link_of_the_manual_leads_to_a_file(path: str) -> None:
    assert (ROOT / "docs" / path).exists()


def test_the_dashboard_shows_every_metric_and_its_panels_do_not_overlap() -> None:
    shown = {s.name for _, expression in TARGETS for s in selectors(parsed(expression))}
    assert {PREFIX + name for name in ALL} <= {
        name.removesuffix("_bucket").removesuffix("_count") for name in shown
    }
    cells: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        mine = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & mine
        cells |= mine
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
