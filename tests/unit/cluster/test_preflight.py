"""The same checks as a command, and as the first task of a run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

pytest.importorskip("kubernetes", reason="the Kubernetes client is not installed")

from cluster_api import ClusterApi, cluster_api
from rendered import overlay
from typer.testing import CliRunner, Result

from tspin.cli.main import app
from tspin.errors import InputError
from tspin_components.preflight import preflight
from tspin_pipelines.needs import needs_of
from tspin_pipelines.profiles.profile import PROFILES, load_profile


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ClusterApi]:
    with cluster_api(tmp_path, overlay("eks")) as api:
        monkeypatch.setenv("KUBECONFIG", str(api.kubeconfig))
        yield api


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    """EKS, with images that nodes have: no registry is asked."""
    values = yaml.safe_load((PROFILES / "eks-l4-spot.yaml").read_text())
    values["images"]["pull_policy"] = "Never"
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def _doctor(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, ["doctor", *arguments])


def test_doctor_looks_at_a_cluster(cluster: ClusterApi, profile: Path, tmp_path: Path) -> None:
    command = ["--cluster", "--profile", str(profile), "--registry", str(tmp_path / "registry")]
    result = _doctor(*command)
    assert result.exit_code == 0, result.output
    assert "v1.32.4" in result.stdout
    assert "no champion yet" in result.stdout
    assert "FAIL" not in result.stdout
    assert "memory for training" not in result.stdout
    cluster.remove("LocalQueue", "tspin")
    result = _doctor(*command)
    assert result.exit_code == 1
    lines = [line for line in result.stdout.splitlines() if "FAIL" in line]
    assert any("no LocalQueue 'tspin'" in line for line in lines)
    assert "to mend: kubectl apply -k k8s/overlays/eks" in result.stdout


@pytest.mark.parametrize("options", [["--cluster"], ["--profile", "cpu"]])
def test_a_cluster_is_looked_at_for_a_profile(options: list[str]) -> None:
    error = _doctor(*options).exception
    assert isinstance(error, InputError)
    assert "--cluster and --profile go together" in str(error)


def test_without_the_extra_it_says_what_to_install() -> None:
    hidden = "import sys; sys.modules['kubernetes'] = None; from tspin.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", hidden, "doctor", "--cluster", "--profile", "cpu"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "tspin: the Python package 'kubernetes' is missing; install what a look at a cluster "
        "needs: pip install 'tspin[pipelines]'\n"
    )


def test_outside_of_a_cluster_the_first_task_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    preflight.python_func(needs_of(load_profile("eks-l4-spot")).model_dump_json())
    assert capsys.readouterr().out == "no cluster here: nothing to check\n"


def test_the_first_task_ends_a_run_that_could_not_end_well(
    cluster: ClusterApi,
    profile: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    host, _, port = cluster.url.removeprefix("http://").partition(":")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    cluster.account = "tspin-pipeline"
    cluster.remove("PersistentVolumeClaim", "tspin-cache")
    needs = needs_of(load_profile(str(profile)), ["light", "train"])
    with pytest.raises(SystemExit) as ended:
        preflight.python_func(needs.model_dump_json(exclude_defaults=True))
    assert ended.value.code == 2
    lines = capsys.readouterr().out.splitlines()
    assert (
        "fail  claim tspin-cache: there is no such claim; to mend: "
        "kubectl apply -k k8s/overlays/eks"
    ) in lines
    assert f"ok    network: Kubernetes API: {host}:{port}" in lines
    # There is no Kubeflow beside this test.
    assert lines[-1] == (
        "the cluster is not fit for this run: claim tspin-cache, network: Kubeflow Pipelines"
    )
