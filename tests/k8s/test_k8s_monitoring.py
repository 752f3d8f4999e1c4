"""What Prometheus asks: the pods that answer, the way to them, metrics that somebody exposes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from custom import SCHEMAS, Metadata
from pydantic import ValidationError
from rendered import K8S, Document, containers, named, of_kind, pod_templates, render
from restricted import house_violations, violations
from typer.testing import CliRunner

import tspin.monitoring.families as families
from tspin.cli.main import app
from tspin.config import load_config
from tspin_pipelines.placement import MONITORED

FOLDER = K8S / "components/monitoring"
GUIDE = Path(__file__).parents[2] / "docs/guides/observability.md"
OURS = {f.name for f in families.FAMILIES} | {
    getattr(families, name).name
    for name in families.__all__
    if name.isupper() and name != "FAMILIES"
}
EXPORTERS = {
    "kube-state-metrics": {
        "kube_cronjob_spec_suspend",
        "kube_cronjob_status_last_successful_time",
        "kube_job_failed",
        "kube_pod_container_status_waiting_reason",
        "kube_pod_status_phase",
        "kube_pod_status_unschedulable",
    },
    "Argo's workflow controller": {"argo_workflows_total_count"},
    "dcgm-exporter": {"DCGM_FI_DEV_GPU_UTIL"},
    "kubelet": {"kubelet_volume_stats_available_bytes", "kubelet_volume_stats_capacity_bytes"},
}
"""What others expose of what the rules and the dashboard ask for."""
PORT = 9464


@pytest.fixture(scope="module")
def monitored() -> list[Document]:
    return render("examples/monitored")


def expressions() -> Iterator[str]:
    for group in yaml.safe_load((FOLDER / "alerts.yaml").read_text())["spec"]["groups"]:
        yield from (rule["expr"] for rule in group["rules"])
    dashboard = json.loads((FOLDER / "dashboard.json").read_text())
    for panel in dashboard["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]["query"]


def metrics_of(expression: str) -> set[str]:
    """The names of metrics: what is left of an expression without labels, numbers and functions."""
    text = re.sub(r"\{[^}]*\}|\[[^\]]*\]", " ", expression)
    text = re.sub(r"\b(by|on|group_left)\s*\([^)]*\)", " ", text)
    text = re.sub(r"label_values\((.*),\s*\w+\)", r"\1", text)
    names = set(re.findall(r"\b[a-zA-Z_]\w*\b(?!\s*\()", text))
    return names - {"or", "unless", "offset", "m"} - set(re.findall(r"\b\d+[smhdw]\b", text))


def test_every_metric_is_one_that_somebody_exposes() -> None:
    asked = set().union(*map(metrics_of, expressions()))
    others = set().union(*EXPORTERS.values())
    assert asked - OURS == others
    # And of ours nothing is left out of the dashboard and the rules.
    assert asked & OURS == OURS
    guide = GUIDE.read_text()
    for exporter, names in EXPORTERS.items():
        assert exporter in guide
        assert [name for name in names if f"`{name}`" not in guide] == []


def test_a_misspelt_metric_is_found() -> None:
    text = 'sum by (run) (rate(tspin_los{run="x"}[5m])) - (b offset 30m or vector(0)) > 0.5'
    assert metrics_of(text) == {"tspin_los", "b"}


def test_the_operators_kinds(monitored: list[Document]) -> None:
    for kind in ("PodMonitor", "PrometheusRule"):
        (document,) = of_kind(monitored, kind)
        assert Metadata.model_validate(document["metadata"]).name
        schema = SCHEMAS[document["apiVersion"], kind]
        schema.model_validate(document["spec"])
        with pytest.raises(ValidationError, match="misspelt"):
            schema.model_validate(document["spec"] | {"misspelt": 1})


@pytest.mark.parametrize("version", ["1.32", kubernetes_validate.latest_version()])
def test_kubernetes_own_kinds(monitored: list[Document], version: str) -> None:
    own = [*of_kind(monitored, "Deployment"), named(monitored, "NetworkPolicy", "allow-metrics")]
    own += [named(monitored, "Job", "tspin-run"), named(monitored, "ConfigMap", "tspin-dashboard")]
    assert len(own) == 4
    for document in own:
        kubernetes_validate.validate(document, version, strict=True)
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(document | {"misspelt": 1}, version, strict=True)


def test_the_exporter_is_restricted_and_runs_the_overlays_image(monitored: list[Document]) -> None:
    pod = named(monitored, "Deployment", "tspin-registry-metrics")["spec"]["template"]["spec"]
    assert violations(pod) == []
    # It loads no model.
    assert house_violations(pod) == ["tspin: nothing writable at /cache and /tmp"]
    assert pod["containers"][0]["image"] == "registry.example.internal/tspin/cpu:0.1.0"
    settings = named(monitored, "ConfigMap", "tspin-registry")["data"]
    # Typer reads all of it before the pattern is looked at.
    values = {**settings, "CI": "("}
    args = [re.sub(r"\$\((\w+)\)", lambda m: values[m[1]], a) for a in pod["containers"][0]["args"]]
    assert "--ci is '('" in str(CliRunner().invoke(app, args).exception)
    re.compile(settings["CI"])


def test_the_pods_that_answer_can_be_asked(monitored: list[Document]) -> None:
    labelled = {
        where
        for where, template in pod_templates(monitored)
        if template["metadata"]["labels"].items() >= MONITORED.items()
    }
    assert labelled == {
        "CronJob/tspin-retrain",
        "Deployment/tspin-registry-metrics",
        "Job/tspin-run",
        "TrainingRuntime/tspin-torch/node",
    }
    policy = named(monitored, "NetworkPolicy", "allow-metrics")["spec"]
    assert policy["podSelector"] == {"matchLabels": MONITORED}
    assert policy["ingress"][0]["ports"] == [{"protocol": "TCP", "port": PORT}]
    (monitor,) = of_kind(monitored, "PodMonitor")
    assert monitor["spec"]["selector"] == {"matchLabels": MONITORED}


def test_the_job_answers_on_that_port(monitored: list[Document], tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(
        named(monitored, "ConfigMap", "tspin-run")["data"]["run.yaml"]
    )
    for kind, name in (("Job", "tspin-run"), ("CronJob", "tspin-retrain")):
        template = dict(pod_templates(monitored))[f"{kind}/{name}"]
        args = containers(template["spec"])[0]["args"]
        sets = [value for option, value in pairwise(args) if option == "--set"]
        assert load_config(tmp_path / "run.yaml", sets).system.metrics_port == PORT


Discovered = dict[str, str]
_META = "__meta_kubernetes_pod_"


def relabelled(target: Discovered) -> str | None:
    """The address that Prometheus makes of a target it discovered; None where it drops it."""
    (monitor,) = yaml.safe_load_all((FOLDER / "pod-monitor.yaml").read_text())
    for step in monitor["spec"]["podMetricsEndpoints"][0]["relabelings"]:
        value = ";".join(target.get(label, "") for label in step["sourceLabels"])
        match = re.fullmatch(step["regex"], value)
        action = step.get("action", "replace")
        if (action, match is None) in (("keep", True), ("drop", False)):
            return None
        if action == "replace" and match:
            target = target | {step["targetLabel"]: step["replacement"].replace("$1", match[1])}
    return target["__address__"]


@pytest.mark.parametrize(
    ("container", "more", "address"),
    [
        ("main", {}, "10.0.0.7:9464"),  # Kubeflow's task, which declares no port
        ("wait", {}, None),
        ("init", {f"{_META}container_init": "true"}, None),
        ("main", {f"{_META}ip": "fd00::7"}, "[fd00::7]:9464"),
        ("tspin", {"__address__": "10.0.0.7:9464"}, "10.0.0.7:9464"),  # declares it
        ("node", {f"{_META}label_batch_kubernetes_io_job_completion_index": "0"}, "10.0.0.7:9464"),
        ("node", {f"{_META}label_batch_kubernetes_io_job_completion_index": "10"}, None),
    ],
)
def test_a_pod_is_asked_once(container: str, more: Discovered, address: str | None) -> None:
    target = {f"{_META}container_name": container, f"{_META}ip": "10.0.0.7"}
    assert relabelled({**target, "__address__": "10.0.0.7", **more}) == address
