"""docs/start/kubeflow.md: ten commands whose flags exist, and a run that finds what they make."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from cluster_api import cluster_api
from kfp import compiler
from rendered import K8S, Document, named, names, need_kubectl, of_kind, render

from tests import warm
from tspin.config import load_config
from tspin_cluster.checks import cluster_checks
from tspin_pipelines.graph.graphs import GRAPHS
from tspin_pipelines.needs import needs_of
from tspin_pipelines.plan import Plan
from tspin_pipelines.profiles.profile import load_profile

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/start/kubeflow.md"
EXAMPLE = K8S / "examples/kind-kubeflow"
BLOCKS = re.findall(r"^```bash\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
COMMANDS = [line for block in BLOCKS for line in block.splitlines()]
KIND = {("create", "cluster"): {"--name"}, ("load", "docker-image"): {"--name"}}
"""Commands and flags of kind (pkg/cmd/kind of v0.30), of which there is no package to ask."""


def test_there_are_ten_commands() -> None:
    assert len(COMMANDS) == 10
    programs = [shlex.split(command)[0] for command in COMMANDS]
    assert set(programs) == {"kind", "kubectl", "make", "tspin"}


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("kubectl")])
def test_kubectl_knows_the_flags(command: str) -> None:
    need_kubectl()
    # Flags are looked at before --help is, the words between them after it.
    done = subprocess.run([*shlex.split(command), "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"kubectl {_verb(command)} " in done.stdout


def _verb(command: str) -> str:
    words = [word for word in shlex.split(command)[1:] if word not in ("-n", "kubeflow")]
    return words[0]


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("kind")])
def test_kind_has_the_flags(command: str) -> None:
    _, noun, verb, *rest = shlex.split(command)
    assert {word for word in rest if word.startswith("-")} <= KIND[noun, verb]


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make")])
def test_make_knows_the_target_and_the_variables(command: str) -> None:
    digest = f"docker.io/library/python@sha256:{'0' * 64}"
    words = [
        word.replace("docker.io/library/python@sha256:DIGEST", digest) for word in command.split()
    ]
    dry = subprocess.run(
        [*words, "--dry-run", "ENGINE=docker"], cwd=ROOT, capture_output=True, text=True
    )
    assert dry.returncode == 0, dry.stderr
    assert "localhost/tspin/cpu:0.1.0" in dry.stdout
    assert digest in dry.stdout


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("tspin")])
def test_tspin_knows_the_options_and_finds_the_files(command: str) -> None:
    words = shlex.split(command)[1:]
    done = warm.run(
        [sys.executable, "-m", "tspin", *words, "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    files = [ROOT / word for word in words if word.startswith("k8s/")]
    assert len(files) == 2
    assert all(file.is_file() for file in files)


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    return render("examples/kind-kubeflow")


@pytest.mark.parametrize("version", ["1.32", kubernetes_validate.latest_version()])
def test_its_objects_are_kubernetes_own(documents: list[Document], version: str) -> None:
    assert {document["metadata"]["namespace"] for document in documents} == {"kubeflow"}
    for document in documents:
        kubernetes_validate.validate(document, version, strict=True)


def test_the_run_finds_what_was_made(documents: list[Document], tmp_path: Path) -> None:
    config = load_config(EXAMPLE / "run.yaml", [])
    profile = load_profile(str(EXAMPLE / "profile.yaml"))
    assert profile.namespace == "kubeflow"
    assert profile.service_account == "pipeline-runner"
    stages = [profile.stages.generate, profile.stages.train, profile.stages.evaluate]
    stages += [profile.stages.light, profile.stages.transfer]
    assert {volume.claim for stage in stages for volume in stage.volumes} == names(
        documents, "PersistentVolumeClaim"
    )
    keys = named(documents, "ConfigMap", "tspin-s3")["data"].keys()
    for stage in stages:
        assert [entry.name for entry in stage.config_maps] == ["tspin-s3"]
        assert set(stage.config_maps[0].keys.values()) | set(stage.config_maps[0].keys) <= keys
    [job] = of_kind(documents, "Job")
    [container] = job["spec"]["template"]["spec"]["containers"]
    assert container["image"] == profile.image(profile.stages.train)
    place = Path(container["command"][-1])
    [mount] = [m for m in container["volumeMounts"] if m["name"] == "cache"]
    assert mount["mountPath"] == profile.stages.train.volumes[0].path
    inputs = [config.model.path, config.data.annotated, str(config.data.heldout)]
    assert {Path(path).parent for path in inputs} == {place}
    out = tmp_path / "pipeline.yaml"
    compiler.Compiler().compile(GRAPHS["run"](Plan(config, profile)), str(out))
    assert "localhost/tspin/cpu:0.1.0" in out.read_text()
    assert list(yaml.safe_load_all(out.read_text()))


def test_the_preflight_finds_nothing_wrong(
    documents: list[Document], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked by an administrator, of a Kubeflow for one user."""
    kubeflow: list[Document] = [
        {"kind": "Namespace", "metadata": {"name": "kubeflow", "labels": {}}},
        {
            "kind": "ServiceAccount",
            "metadata": {"name": "pipeline-runner", "namespace": "kubeflow"},
        },
    ]
    profile = load_profile(str(EXAMPLE / "profile.yaml"))
    with cluster_api(tmp_path, [*kubeflow, *documents]) as api:
        api.begin()
        monkeypatch.setenv("KUBECONFIG", str(api.kubeconfig))
        checks = {check.name: check for check in cluster_checks(needs_of(profile))}
    wrong = {name: check.detail for name, check in checks.items() if check.status == "fail"}
    assert wrong == {}
    assert checks["namespace"].detail == "kubeflow, of a Kubeflow Pipelines for one user"
    assert checks["claim tspin-cache"].status == "ok"
    assert checks["image localhost/tspin/cpu:0.1.0"].status == "warn"
