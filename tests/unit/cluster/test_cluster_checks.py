"""A cluster as the overlay makes it is fit for its profile, and each check can fail."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("kubernetes", reason="the Kubernetes client is not installed")

from cluster_api import ClusterApi, cluster_api
from rendered import overlay

from tests.ports import free_port
from tspin.machine import driver
from tspin.machine.check import Check
from tspin_cluster.checks import cluster_checks
from tspin_cluster.needs import Needs
from tspin_cluster.nodes import OLDEST_DRIVER
from tspin_pipelines.needs import needs_of
from tspin_pipelines.profiles.profile import Profile, load_profile

CLAIM = "PersistentVolumeClaim"


def _needs(artifact_bytes: int | None = None, **train: object) -> Needs:
    """Of EKS on spot; images are asked elsewhere."""
    values = load_profile("eks-l4-spot").model_dump()
    values["images"]["pull_policy"] = "Never"
    values["stages"]["train"] |= train
    return needs_of(Profile.model_validate(values), artifact_bytes=artifact_bytes)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterApi]:
    with cluster_api(tmp_path_factory.mktemp("cluster"), overlay("eks")) as api:
        yield api


@pytest.fixture
def cluster(server: ClusterApi, monkeypatch: pytest.MonkeyPatch) -> ClusterApi:
    server.begin()
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig))
    return server


def _checks(needs: Needs) -> dict[str, Check]:
    return {check.name: check for check in cluster_checks(needs)}


def test_a_cluster_with_the_overlay_is_fit_for_the_profile(cluster: ClusterApi) -> None:
    checks = _checks(_needs(nodes=2))
    assert {name: check for name, check in checks.items() if check.status != "ok"} == {}
    assert checks["Kubernetes API"].detail == "v1.32.4"
    assert checks["artifacts"].detail == "s3://my-bucket/pipelines"
    assert checks["quota of stage train"].detail == (
        "80 cpu, 304Gi memory, 8 nvidia.com/gpu from tspin-train-spot"
    )
    assert checks["nodes of stage train"].detail == "1 now, driver 580"
    assert checks["training runtime"].detail == "tspin-torch"


def _label(name: str, value: str) -> Callable[[ClusterApi], None]:
    def change(api: ClusterApi) -> None:
        api.of("Namespace", "tspin", "")["metadata"]["labels"][name] = value

    return change


def _claim(**status: object) -> Callable[[ClusterApi], None]:
    def change(api: ClusterApi) -> None:
        api.of(CLAIM, "tspin-cache")["status"].update(status)

    return change


def _patch(text: str) -> Callable[[ClusterApi], None]:
    def change(api: ClusterApi) -> None:
        pod = api.of("Deployment", "ml-pipeline", "kubeflow")["spec"]["template"]["spec"]
        pod["containers"][0]["env"][0]["value"] = text

    return change


def _driver(version: str | None) -> Callable[[ClusterApi], None]:
    def change(api: ClusterApi) -> None:
        labels = api.of("Node", "tspin-train-spot", "")["metadata"]["labels"]
        labels.pop("nvidia.com/cuda.driver-version.major")
        if version is not None:
            labels["nvidia.com/cuda.driver-version.major"] = version

    return change


def _quota(resource: str, size: str) -> Callable[[ClusterApi], None]:
    def change(api: ClusterApi) -> None:
        spec = api.of("ClusterQueue", "tspin", "")["spec"]
        for flavor in spec["resourceGroups"][0]["flavors"]:
            for quota in flavor["resources"]:
                if (flavor["name"], quota["name"]) == ("tspin-train-spot", resource):
                    quota["nominalQuota"] = size

    return change


def _in_use(api: ClusterApi) -> None:
    api.of("ResourceQuota", "tspin")["status"]["used"]["requests.nvidia.com/gpu"] = "20"


def _full(api: ClusterApi) -> None:
    api.of("ResourceQuota", "tspin")["status"]["hard"]["requests.nvidia.com/gpu"] = "7"


def _stopped(api: ClusterApi) -> None:
    condition = api.of("LocalQueue", "tspin")["status"]["conditions"][0]
    condition |= {"status": "False", "message": "clusterQueue is inactive"}


def _old_kueue(api: ClusterApi) -> None:
    api.apis["kueue.x-k8s.io"] = ["v1beta1"]


def _own_store(api: ClusterApi) -> None:
    api.of("ConfigMap", "kfp-launcher")["data"] = {}


def _removed(kind: str, name: str, namespace: str = "tspin") -> Callable[[ClusterApi], None]:
    return lambda api: api.remove(kind, name, namespace)


def _other_key(api: ClusterApi) -> None:
    api.of("ConfigMap", "tspin-s3")["data"] = {"REGION": "eu-central-1"}


def _small_node(api: ClusterApi) -> None:
    api.of("Node", "tspin-train-spot", "")["status"]["allocatable"]["nvidia.com/gpu"] = "1"


ALWAYS = r'"retryStrategy":{"retryPolicy":"Always","limit":"0"}'
FAULTS = {
    "no namespace": (_removed("Namespace", "tspin", ""), "namespace", "fail", "Kubeflow's Profile"),
    "namespace of another": (
        _label("app.kubernetes.io/part-of", "tspin"),
        "namespace",
        "fail",
        "part-of=tspin: .*kubectl label .*part-of=kubeflow-profile",
    ),
    "root in the namespace": (
        _label("pod-security.kubernetes.io/enforce", "baseline"),
        "namespace",
        "warn",
        "enforces baseline: pods in it may run as root",
    ),
    "no account": (
        _removed("ServiceAccount", "tspin-pipeline"),
        "service account",
        "fail",
        "no service account 'tspin-pipeline'.*kubectl apply -k k8s/overlays/eks",
    ),
    "no claim": (_removed(CLAIM, "tspin-cache"), "claim tspin-cache", "fail", "no such claim"),
    "a claim without volume": (
        _claim(phase="Pending"),
        "claim tspin-cache",
        "fail",
        "Pending: it has no volume.*describe pvc tspin-cache",
    ),
    "a claim for one node": (
        _claim(accessModes=["ReadWriteOnce"]),
        "claim tspin-cache",
        "fail",
        "ReadWriteOnce: one node mounts it.*wanted: ReadWriteMany",
    ),
    "no settings": (
        _removed("ConfigMap", "tspin-s3"),
        "ConfigMap tspin-s3",
        "fail",
        "never start.*the keys AWS_REGION",
    ),
    "another key": (_other_key, "ConfigMap tspin-s3", "fail", "has no AWS_REGION"),
    "no optional Secret": (
        _removed("Secret", "tspin-hub"),
        "Secret tspin-hub",
        "ok",
        "not there; tasks do without it",
    ),
    "no Argo": (
        lambda api: api.apis.pop("argoproj.io"),
        "Argo Workflows",
        "fail",
        "there is no argoproj.io.*install Kubeflow Pipelines",
    ),
    "no retries after failures": (
        _patch("{}"),
        "retries",
        "warn",
        "retryPolicy is OnError: pods that fail.*set env deployment/ml-pipeline "
        f"'COMPILED_PIPELINE_SPEC_PATCH={{.*{ALWAYS}",
    ),
    "retries of everything": (
        _patch('{"ttlStrategy":{},"templateDefaults":{"retryStrategy":{"retryPolicy":"Always"}}}'),
        "retries",
        "warn",
        f'limit is 2 for every template: .*{{"ttlStrategy":{{}},.*{ALWAYS}',
    ),
    "a patch that is none": (_patch("[]"), "retries", "fail", "is no workflow's spec"),
    "Kubeflow's own store": (_own_store, "artifacts", "fail", "of 20Gi; 56.0 GiB of models a run"),
    "no runtime": (
        _removed("TrainingRuntime", "tspin-torch"),
        "training runtime",
        "fail",
        "no 'tspin-torch'",
    ),
    "no Trainer": (
        lambda api: api.apis.pop("trainer.kubeflow.org"),
        "Kubeflow Trainer",
        "fail",
        "install Kubeflow Trainer",
    ),
    "an old Kueue": (_old_kueue, "Kueue", "fail", "has v1beta1.*wanted: kueue.x-k8s.io/v1beta2"),
    "no queue": (
        _removed("LocalQueue", "tspin"),
        "queue",
        "fail",
        "no LocalQueue 'tspin': tasks would wait for ever",
    ),
    "a queue that is stopped": (_stopped, "queue", "fail", "clusterQueue is inactive"),
    "no priority": (
        _removed("WorkloadPriorityClass", "tspin-train", ""),
        "priority tspin-train",
        "fail",
        "kubectl apply -k k8s/cluster/eks",
    ),
    "quota for half a gang": (
        _quota("nvidia.com/gpu", "4"),
        "quota of stage train",
        "fail",
        "flavor tspin-train-spot has 4 nvidia.com/gpu.*8 nvidia.com/gpu for 2 pods",
    ),
    "no flavor": (
        _removed("ResourceFlavor", "tspin-train-spot", ""),
        "quota of stage train",
        "fail",
        "there is no ResourceFlavor 'tspin-train-spot'",
    ),
    "a namespace that is too small": (
        _full,
        "ResourceQuota",
        "fail",
        "requests.nvidia.com/gpu is 7.*8 requests.nvidia.com/gpu for stage train",
    ),
    "a namespace that is in use": (_in_use, "ResourceQuota", "warn", "20 in use"),
    "no nodes": (
        _removed("Node", "tspin-train-spot", ""),
        "nodes of stage train",
        "warn",
        "none now.*2 nodes with tspin.io/pool=train",
    ),
    "small nodes": (_small_node, "nodes of stage train", "warn", "none is large enough"),
    "an old driver": (
        _driver("570"),
        "nodes of stage train",
        "fail",
        r"too old a driver on tspin-train-spot \(570\).*driver 580 or newer",
    ),
    "a driver without a label": (
        _driver(None),
        "nodes of stage train",
        "warn",
        "cannot tell their driver",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_check_finds_its_fault(cluster: ClusterApi, fault: str) -> None:
    change, name, status, text = FAULTS[fault]
    change(cluster)
    check = _checks(_needs(nodes=2, artifact_bytes=56 * 2**30))[name]
    assert check.status == status, check
    assert re.search(text, " ".join(check.lines())), check.lines()


def test_a_claim_may_wait_for_its_first_pod(cluster: ClusterApi) -> None:
    _claim(phase="Pending")(cluster)
    cluster.of("StorageClass", "tspin-shared", "")["volumeBindingMode"] = "WaitForFirstConsumer"
    check = _checks(_needs())["claim tspin-cache"]
    assert (check.status, check.detail) == ("ok", "waits for its first pod, ReadWriteMany")


def test_a_required_secret_is_missed_and_no_value_is_shown(cluster: ClusterApi) -> None:
    needs = _needs()
    secret = needs.secrets[0].model_copy(update={"optional": False})
    assert secret.name == "tspin-hub"
    needs = needs.model_copy(update={"secrets": (secret,)})
    assert _checks(needs)["Secret tspin-hub"].detail == "has HF_TOKEN"
    cluster.of("Secret", "tspin-hub")["data"] = {"OTHER": "c2VjcmV0"}
    assert _checks(needs)["Secret tspin-hub"].detail == "has no HF_TOKEN"


def test_what_an_account_may_not_see_is_never_ok(cluster: ClusterApi) -> None:
    cluster.account = "tspin-pipeline"
    checks = _checks(_needs(nodes=2))
    unknown = {name for name, check in checks.items() if check.status == "warn"}
    stages = [gang.stage for gang in _needs().gangs]
    assert unknown == {
        *("Secret tspin-hub", "Secret tspin-promoter", "retries"),
        *("priority tspin-batch", "priority tspin-train"),
        *(f"nodes of stage {stage}" for stage in stages),
        *(f"quota of stage {stage}" for stage in stages),
    }
    for name in unknown:
        assert checks[name].detail.startswith("cannot tell, this identity may not look: "), name
        assert 'User "system:serviceaccount:tspin:tspin-pipeline"' in checks[name].detail
    assert {check.status for check in checks.values()} == {"ok", "warn"}
    cluster.remove("LocalQueue", "tspin")
    assert _checks(_needs())["queue"].status == "fail"


def test_where_the_api_does_not_answer_that_is_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = ClusterApi(tmp_path, [], url=f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("KUBECONFIG", str(nobody.kubeconfig))
    (check,) = cluster_checks(_needs())
    assert check.status == "fail"
    assert "cannot be reached" in check.detail


def test_needs_pass_through_json() -> None:
    needs = _needs(nodes=2)
    assert Needs.model_validate_json(needs.model_dump_json(exclude_defaults=True)) == needs
    assert [claim.model_dump() for claim in needs.claims] == [
        {"name": "tspin-cache", "shared": True}
    ]
    assert needs_of(load_profile("cpu")).claims[0].shared is False


def test_the_driver_is_the_one_that_doctor_wants() -> None:
    assert driver._OLDEST[13] == OLDEST_DRIVER
