"""The manifests are valid, fit each other and the image, and ask for no privilege."""

import copy
import re
from typing import Any

import click
import pytest
import yaml
from kubernetes_validate import ValidationError, validate

from serving.cli.serve import command
from serving.observe.definitions import PREFIX
from serving.observe.definitions import SERVER as METRICS
from tests.conftest import ROOT

VERSION = "1.37"
FOLDER = ROOT / "serving" / "deploy" / "kubernetes"
MANIFESTS: dict[str, Any] = {
    manifest["kind"]: manifest
    for path in sorted(FOLDER.glob("*.yaml"))
    for manifest in yaml.safe_load_all(path.read_text(encoding="utf-8"))
}
DEPLOYMENT = MANIFESTS["Deployment"]["spec"]
TEMPLATE = DEPLOYMENT["template"]
POD = TEMPLATE["spec"]
(SERVER,) = POD["containers"]
LABELS = TEMPLATE["metadata"]["labels"]


def flag(name: str) -> str:
    """The value of one of the server's flags."""
    (value,) = (a.partition("=")[2] for a in SERVER["args"] if a.startswith(f"--{name}="))
    return str(value)


def ports() -> dict[str, int]:
    return {port["name"]: port["containerPort"] for port in SERVER["ports"]}


@pytest.mark.parametrize("kind", MANIFESTS)
def test_a_manifest_is_valid_and_a_misspelt_field_is_not(kind: str) -> None:
    validate(MANIFESTS[kind], VERSION, strict=True)
    broken = copy.deepcopy(MANIFESTS[kind])
    broken["metadata"]["nmae"] = broken["metadata"].pop("name")
    with pytest.raises(ValidationError):
        validate(broken, VERSION, strict=True)


def test_all_that_an_operator_expects_is_there() -> None:
    assert set(MANIFESTS) == {
        "Deployment", "HorizontalPodAutoscaler", "NetworkPolicy", "PodDisruptionBudget", "Service",
        "ServiceAccount",
    }  # fmt: skip
    assert MANIFESTS["Service"]["spec"]["clusterIP"] == "None"
    assert "replicas" not in DEPLOYMENT


def test_everything_means_the_same_pods() -> None:
    assert DEPLOYMENT["selector"]["matchLabels"] == LABELS
    assert MANIFESTS["Service"]["spec"]["selector"] == LABELS
    assert MANIFESTS["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == LABELS
    assert MANIFESTS["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == LABELS
    target = MANIFESTS["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == (
        "Deployment",
        MANIFESTS["Deployment"]["metadata"]["name"],
    )
    assert POD["serviceAccountName"] == MANIFESTS["ServiceAccount"]["metadata"]["name"]


def test_the_flags_are_flags_that_the_server_has() -> None:
    name, *flags = SERVER["args"]
    assert name == "serve"
    command.make_context(name, flags)
    with pytest.raises(click.NoSuchOption):
        command.make_context(name, [*flags, "--nothing=1"])


def test_the_autoscaler_looks_at_a_metric_that_the_server_has() -> None:
    (metric,) = MANIFESTS["HorizontalPodAutoscaler"]["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] in {f"{PREFIX}{name}" for name in METRICS}


def test_ports_are_those_that_the_server_listens_on() -> None:
    assert flag("listen") == f"0.0.0.0:{ports()['grpc']}"
    assert flag("metrics-listen") == f"0.0.0.0:{ports()['metrics']}"
    assert TEMPLATE["metadata"]["annotations"]["prometheus.io/port"] == str(ports()["metrics"])
    assert {port["targetPort"] for port in MANIFESTS["Service"]["spec"]["ports"]} <= set(ports())
    rules = MANIFESTS["NetworkPolicy"]["spec"]["ingress"]
    assert {port["port"] for rule in rules for port in rule["ports"]} == set(ports())


@pytest.mark.parametrize("probe", ["startupProbe", "readinessProbe", "livenessProbe"])
def test_probes_ask_the_health_service(probe: str) -> None:
    assert SERVER[probe]["grpc"]["port"] == ports()["grpc"]


def test_the_pod_needs_no_privilege() -> None:
    """The restricted level of Kubernetes' pod security standards, and more."""
    assert POD["automountServiceAccountToken"] is False
    assert MANIFESTS["ServiceAccount"]["automountServiceAccountToken"] is False
    assert POD["securityContext"]["runAsNonRoot"] is True
    assert POD["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert SERVER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert MANIFESTS["NetworkPolicy"]["spec"]["egress"] == []


def test_the_pods_user_is_the_images() -> None:
    containerfile = (ROOT / "serving" / "Containerfile").read_text(encoding="utf-8")
    user = re.search(r"^USER (\d+):(\d+)$", containerfile, re.MULTILINE)
    assert user is not None
    context = POD["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"]) == (int(user[1]), int(user[2]))


def test_no_variable_of_a_service_can_be_taken_for_a_flag() -> None:
    assert POD["enableServiceLinks"] is False


def test_a_pod_is_not_killed_before_its_calls_have_had_their_grace() -> None:
    taken = SERVER["lifecycle"]["preStop"]["sleep"]["seconds"]
    taken += float(flag("lame-duck")) + float(flag("grace"))
    assert POD["terminationGracePeriodSeconds"] >= taken + 5


def test_readiness_is_lost_within_the_lame_duck() -> None:
    probe = SERVER["readinessProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] < float(flag("lame-duck"))
