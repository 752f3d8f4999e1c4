"""The examples for Katib and Argo Events: fields, pods, and the commands in them, which are run."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from custom import SCHEMAS
from rendered import K8S, Document, named, names, of_kind, overlay, render
from restricted import violations

from tests.conftest import make_tokenizer, save_tiny_model
from tspin.config import load_config
from tspin.records.records import AnnotatedRecord, write_records

SWEEP, EVENTS = K8S / "examples/sweep", K8S / "examples/new-data"
COLLECTED = re.compile(r"([\w|-]+)\s*=\s*([+-]?\d*(\.\d+)?([Ee][+-]?\d+)?)")
"""What Katib's collector reads of an output (pkg/metricscollector/v1beta1/common/const.go)."""


def documents(path: Path) -> list[Document]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


@pytest.fixture(scope="module")
def experiment() -> dict[str, Any]:
    [found] = documents(SWEEP / "experiment.yaml")
    spec: dict[str, Any] = found["spec"]
    return spec


@pytest.fixture(scope="module")
def sensor() -> dict[str, Any]:
    spec: dict[str, Any] = named(documents(EVENTS / "events.yaml"), "Sensor", "tspin-data")["spec"]
    return spec


def trial(experiment: dict[str, Any]) -> dict[str, Any]:
    pod: dict[str, Any] = experiment["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]
    return pod


@pytest.mark.parametrize("folder", ["examples/sweep", "examples/new-data"])
def test_fields_are_those_of_their_kinds(folder: str) -> None:
    assert len(render(folder)) >= 2
    for document in render(folder):
        kind = (document["apiVersion"], document["kind"])
        if kind in SCHEMAS:
            SCHEMAS[kind].model_validate(document["spec"])
        else:
            kubernetes_validate.validate(document, "1.32", strict=True)


def test_jobs_inside_are_jobs(experiment: dict[str, Any], sensor: dict[str, Any]) -> None:
    resource = sensor["triggers"][0]["template"]["k8s"]["source"]["resource"]
    for job in (experiment["trialTemplate"]["trialSpec"], resource):
        whole = {"metadata": {"name": "job"}, **job}
        kubernetes_validate.validate(whole, "1.32", strict=True)
        assert violations(job["spec"]["template"]["spec"]) == []


def test_a_trials_pod_finds_what_the_overlay_makes(experiment: dict[str, Any]) -> None:
    there = overlay("kind-cpu")
    pod = trial(experiment)
    assert pod["serviceAccountName"] in names(there, "ServiceAccount")
    claims = {
        v["persistentVolumeClaim"]["claimName"]
        for v in pod["volumes"]
        if len(v) == 2 and "persistentVolumeClaim" in v
    }
    assert claims == names(there, "PersistentVolumeClaim")
    maps = {v["configMap"]["name"] for v in pod["volumes"] if "configMap" in v}
    assert maps <= names(there, "ConfigMap")
    [policy] = documents(SWEEP / "network-policy.yaml")
    labels = experiment["trialTemplate"]["trialSpec"]["spec"]["template"]["metadata"]["labels"]
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()


def test_every_parameter_of_a_trial_is_searched_for(experiment: dict[str, Any]) -> None:
    text = yaml.safe_dump(experiment["trialTemplate"]["trialSpec"])
    used = set(re.findall(r"\$\{trialParameters\.(\w+)\}", text))
    given = {p["name"]: p["reference"] for p in experiment["trialTemplate"]["trialParameters"]}
    assert used == given.keys()
    assert set(given.values()) == {parameter["name"] for parameter in experiment["parameters"]}


def test_a_trial_prints_the_objective_that_katib_reads(
    experiment: dict[str, Any], tmp_path: Path
) -> None:
    """The container's own command, with paths of this machine for those of its mounts."""
    save_tiny_model(tmp_path / "model", make_tokenizer())
    for name, count in {"annotated": 6, "heldout": 4}.items():
        rows = (
            {"id": f"{name}{i}", "prompt": f"say {i}", "response": f"{i}"} for i in range(count)
        )
        write_records(tmp_path / f"{name}.jsonl", (AnnotatedRecord.model_validate(r) for r in rows))
    (tmp_path / "config").mkdir()
    (tmp_path / "config/run.yaml").write_text(
        "run_dir: x\niterations: 1\nmodel: {path: model}\n"
        "data: {annotated: annotated.jsonl, heldout: heldout.jsonl}\n"
        "prompt: {template: instruction, max_length: 64}\ngenerate: {max_new_tokens: 4}\n"
        "train: {epochs: 1, global_batch_size: 4}\ngate: {metric: nll_per_token, direction: min}\n"
    )
    [container] = trial(experiment)["containers"]
    [script] = container["args"]
    script = script.replace("${trialParameters.learningRate}", "2.5e-5")
    script = script.replace("/config/", f"{tmp_path}/config/").replace(
        "/runs/", f"{tmp_path}/runs/"
    )
    programs = str(Path(sys.executable).parent)
    done = subprocess.run(
        [*container["command"], script],
        cwd=tmp_path,
        env={"PATH": f"{programs}:/usr/bin:/bin", "TRIAL": "trial-1", "OMP_NUM_THREADS": "1",
             "PYTHONPATH": ":".join(sys.path), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    metrics = {name: value for name, value, *_ in COLLECTED.findall(done.stdout) if value}
    assert float(metrics[experiment["objective"]["objectiveMetricName"]]) > 0
    settings = load_config(tmp_path / "runs/sweep/trial-1/config.json", [])
    assert settings.train.learning_rate == 2.5e-5


def test_the_sensor_listens_to_its_source_and_submits(sensor: dict[str, Any]) -> None:
    there = documents(EVENTS / "events.yaml")
    [dependency] = sensor["dependencies"]
    source = named(there, "EventSource", dependency["eventSourceName"])
    assert dependency["eventName"] in source["spec"]["sqs"]
    accounts = names(there, "ServiceAccount")
    assert {sensor["template"]["serviceAccountName"]} == accounts
    [binding] = of_kind(there, "RoleBinding")
    assert {subject["name"] for subject in binding["subjects"]} == accounts
    job = sensor["triggers"][0]["template"]["k8s"]["source"]["resource"]
    assert job["metadata"]["namespace"] == binding["metadata"]["namespace"]
    pod = job["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] in names(overlay("eks"), "ServiceAccount")
    [container] = pod["containers"]
    program = shutil.which("tspin", path=str(Path(sys.executable).parent))
    assert container["command"] == ["tspin"]
    done = subprocess.run(
        [str(program), *container["args"], "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    token = next(v for v in pod["volumes"] if v["name"] == "token")["projected"]["sources"][0]
    assert token["serviceAccountToken"]["audience"] == "pipelines.kubeflow.org"
