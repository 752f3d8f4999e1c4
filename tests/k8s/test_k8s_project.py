"""A project's manifests, rendered on a local checkout and on a tagged repository."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from rendered import (
    K8S,
    OVERLAYS,
    Document,
    containers,
    named,
    names,
    need_kubectl,
    of_kind,
    overlay,
    render,
)
from rendered import pod_templates as templates

import tspin
from tests.kubeflow_project import fill_in
from tspin_pipelines.profiles.profile import load_profile, profile_names
from tspin_pipelines.project.manifests import sync_manifests
from tspin_pipelines.project.starter import STORES, add_kubeflow

BY_OVERLAY = {load_profile(name).overlay: name for name in profile_names()}


def _render(folder: Path) -> list[Document]:
    need_kubectl()
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def _places(documents: list[Document]) -> set[tuple[str, str | None]]:
    """Kinds with the namespaces of their objects; None is the whole cluster."""
    return {(d["kind"], d["metadata"].get("namespace")) for d in documents}


@pytest.mark.parametrize("name", OVERLAYS)
def test_what_the_profile_says_is_in_every_object(name: str, tmp_path: Path) -> None:
    add_kubeflow(tmp_path, BY_OVERLAY[name])
    path = tmp_path / "kubeflow/profile.yaml"
    fill_in(path, os.path.relpath(K8S.parent, path.parent), namespace="team")
    path.write_text(path.read_text().replace("AWS_REGION: us-east-1", "AWS_REGION: eu-north-1"))
    sync_manifests(path)
    profile = load_profile(str(path))
    documents = _render(path.parent)

    pods = [pod["spec"] for _, pod in templates(documents)]
    images = {container["image"] for pod in pods for container in containers(pod)}
    assert images == {profile.image(s) for s in (profile.stages.train, profile.stages.light)}
    assert profile.project is not None
    assert named(documents, "ConfigMap", "tspin-s3")["data"] == profile.project.settings
    if name != "kind-cpu":
        root = named(documents, "ConfigMap", "kfp-launcher")["data"]["defaultPipelineRoot"]
        assert root == profile.project.artifacts
    shipped = render(f"overlays/{name}")
    assert len(documents) == len(shipped)
    named(documents, "Namespace", "team")
    assert "us-east-1" not in str(of_kind(documents, "SecretStore"))
    assert _places(documents) == {(kind, place and "team") for kind, place in _places(shipped)}
    references = str([d.get("subjects") for d in documents] + of_kind(documents, "ClusterQueue"))
    assert "'namespace': 'tspin'" not in references
    assert "metadata.name': 'tspin'" not in references
    queues = {queue["spec"]["clusterQueue"] for queue in of_kind(documents, "LocalQueue")}
    assert queues == names(documents, "ClusterQueue") <= {"team"}


@pytest.mark.parametrize(
    ("address", "namespace", "port"),
    [
        ("http://mlflow.tools.svc.cluster.local:80/prefix", "tools", None),
        ("https://mlflow.test", None, 443),
        ("http://10.1.2.3:5000", None, 5000),
    ],
)
def test_pods_reach_the_mlflow_server_that_the_profile_names(
    address: str, namespace: str | None, port: int | None, tmp_path: Path
) -> None:
    add_kubeflow(tmp_path, BY_OVERLAY["onprem"])
    path = tmp_path / "kubeflow/profile.yaml"
    fill_in(path, os.path.relpath(K8S.parent, path.parent), namespace="team")
    path.write_text(path.read_text().replace("\nproject:\n", f"\nproject:\n  mlflow: {address}\n"))
    sync_manifests(path)
    policy = named(_render(path.parent), "NetworkPolicy", "allow-mlflow")
    assert policy["metadata"]["namespace"] == "team"
    (rule,) = policy["spec"]["egress"]
    if namespace is not None:
        labels = {"kubernetes.io/metadata.name": namespace}
        assert rule == {"to": [{"namespaceSelector": {"matchLabels": labels}}]}
    else:
        assert rule["ports"] == [{"protocol": "TCP", "port": port}]
        assert [to["ipBlock"]["cidr"] for to in rule["to"]] == ["0.0.0.0/0", "::/0"]
        assert "169.254.0.0/16" in rule["to"][0]["ipBlock"]["except"]


def test_pods_reach_the_mirrors_that_the_profile_names(tmp_path: Path) -> None:
    add_kubeflow(tmp_path, BY_OVERLAY["onprem"])
    path = tmp_path / "kubeflow/profile.yaml"
    fill_in(path, os.path.relpath(K8S.parent, path.parent), namespace="team")
    mirrors = "\nmirrors: {addresses: ['model-registry=http://mr.kubeflow.svc.cluster.local']}\n"
    path.write_text(path.read_text().replace("\nproject:\n", f"{mirrors}project:\n"))
    sync_manifests(path)
    policy = named(_render(path.parent), "NetworkPolicy", "allow-mirrors")
    assert policy["metadata"]["namespace"] == "team"
    labels = {"kubernetes.io/metadata.name": "kubeflow"}
    rule = {"to": [{"namespaceSelector": {"matchLabels": labels}}]}
    assert policy["spec"]["egress"] == [rule]


@pytest.mark.parametrize("name", OVERLAYS)
def test_a_project_begins_with_the_settings_that_its_overlay_has(name: str) -> None:
    assert STORES[name].keys() == named(overlay(name), "ConfigMap", "tspin-s3")["data"].keys()


def test_a_repository_is_taken_at_the_tag_of_the_version(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    shutil.copytree(K8S, repository / "k8s")
    tag = f"v{tspin.__version__}"
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "a"], ["tag", tag]):
        subprocess.run(["git", *identity, *command], cwd=repository, check=True)
    (repository / "k8s/overlays/kind-cpu/kustomization.yaml").write_text("after the tag")
    subprocess.run(["git", *identity, "commit", "-qam", "b"], cwd=repository, check=True)
    add_kubeflow(tmp_path, "cpu")
    profile = tmp_path / "kubeflow/profile.yaml"
    fill_in(profile, f"file://{repository}")
    sync_manifests(profile)
    assert _render(profile.parent) == render("overlays/kind-cpu")
