"""What Kubeflow's own manifests ask of a namespace that its pods are to serve."""

from __future__ import annotations

import re

import pytest
import yaml
from rendered import (
    OVERLAYS,
    named,
    names,
    of_kind,
    overlay,
    pod_templates,
    render,
    training_templates,
)

from tspin_pipelines.profiles.profile import Profile, load_profile, profile_names


def profile_of(name: str) -> Profile:
    """The shipped profile that an overlay is for."""
    return next(p for p in map(load_profile, profile_names()) if p.overlay == name)


PART_OF = ("app.kubernetes.io/part-of", "kubeflow-profile")
"""What the policies of ml-pipeline, metadata-grpc-server and SeaweedFS select namespaces by
(kubeflow/manifests, common/kubeflow-namespace; Pipelines 2.17, third-party/seaweedfs)."""


@pytest.mark.parametrize("name", OVERLAYS)
def test_kubeflows_network_policies_admit_the_namespace(name: str) -> None:
    (namespace,) = of_kind(overlay(name), "Namespace")
    assert PART_OF in namespace["metadata"]["labels"].items()
    role = named(overlay(name), "Role", "tspin-pipeline")
    assert role["metadata"]["labels"][PART_OF[0]] == "tspin"


@pytest.mark.parametrize("name", OVERLAYS)
def test_no_sidecar_keeps_a_job_from_ending(name: str) -> None:
    templates = dict(pod_templates(overlay(name)))
    assert len(templates) >= 2
    for where, template in templates.items():
        assert template["metadata"]["labels"]["sidecar.istio.io/inject"] == "false", where


@pytest.mark.parametrize("name", [name for name in OVERLAYS if name != "kind-cpu"])
def test_artifacts_go_to_a_bucket_that_the_tasks_may_open(name: str) -> None:
    documents = overlay(name)
    settings = named(documents, "ConfigMap", "kfp-launcher")["data"]
    scheme, _, place = settings["defaultPipelineRoot"].partition("://")
    assert scheme in ("s3", "gs") and place
    credentials = yaml.safe_load(settings["providers"])[scheme]["default"]["credentials"]
    if not credentials["fromEnv"]:
        secret = credentials["secretRef"]
        made = named(documents, "ExternalSecret", secret["secretName"])["spec"]["data"]
        assert {secret["accessKeyKey"], secret["secretKeyKey"]} == {d["secretKey"] for d in made}
        rules = named(documents, "Role", "tspin-pipeline")["rules"]
        assert any(secret["secretName"] in rule.get("resourceNames", ()) for rule in rules)


def test_a_second_team_has_all_of_its_own_but_the_machines() -> None:
    first, second = overlay("eks"), render("examples/second-team")
    assert len(second) == len(render("overlays/eks"))
    assert {d["metadata"]["namespace"] for d in second if "namespace" in d["metadata"]} == {
        "tspin-red"
    }
    cluster_scoped = [d for d in second if "namespace" not in d["metadata"]]
    assert {d["kind"] for d in cluster_scoped} == {"Namespace", "ClusterQueue"}
    for document in cluster_scoped:
        assert document["metadata"]["name"] not in names(first, document["kind"])
    queue = named(second, "ClusterQueue", "tspin-red")["spec"]
    assert queue["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "tspin-red"}
    assert {d["spec"]["clusterQueue"] for d in of_kind(second, "LocalQueue")} == {"tspin-red"}
    bindings = of_kind(second, "RoleBinding")
    assert {s["namespace"] for b in bindings for s in b["subjects"]} == {"tspin-red"}
    flavors = {f["name"] for group in queue["resourceGroups"] for f in group["flavors"]}
    assert flavors == names(first, "ResourceFlavor")


@pytest.mark.parametrize("name", ["aks", "eks", "gke", "onprem"])
def test_a_lost_node_is_told_from_a_wrong_configuration(name: str) -> None:
    """As the Job controller words the reason (pkg/controller/job/pod_failure_policy.go)."""
    (runtime,) = of_kind(overlay(name), "TrainingRuntime")
    job_set = runtime["spec"]["template"]["spec"]
    (job,) = job_set["replicatedJobs"]
    codes, node = job["template"]["spec"]["podFailurePolicy"]["rules"]
    (container,) = job["template"]["spec"]["template"]["spec"]["containers"]
    assert codes["onExitCodes"]["containerName"] == container["name"]
    assert node["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    wrong, lost = job_set["failurePolicy"]["rules"]
    assert (wrong["action"], lost["action"]) == (
        "FailJobSet",
        "RestartJobSetAndIgnoreMaxRestarts",
    )
    (pattern,) = wrong["onJobFailureMessagePatterns"]
    exited = (
        "Container node for pod tspin/a-node-0-0 failed with exit code {} matching FailJob rule"
    )
    assert [code for code in (1, 2, 3, 137) if re.search(pattern, exited.format(code))] == [2, 3]
    assert not re.search(
        pattern, "Pod tspin/a has condition DisruptionTarget matching FailJob rule"
    )


def test_every_pod_trusts_the_certificates_and_goes_out_through_the_proxy() -> None:
    documents = render("examples/air-gapped")
    assert set(named(documents, "ConfigMap", "tspin-proxy")["data"]) == {
        "HTTPS_PROXY",
        "HTTP_PROXY",
        "NO_PROXY",
    }
    templates = training_templates(documents)
    assert len(templates) == 4
    for where, template in templates.items():
        pod = template["spec"]
        (container,) = pod["containers"]
        sources = [source.get("configMapRef", {}).get("name") for source in container["envFrom"]]
        assert "tspin-proxy" in sources, where
        (mount,) = [m for m in container["volumeMounts"] if m["name"] == "ca"]
        (volume,) = [v for v in pod["volumes"] if v["name"] == "ca"]
        assert set(named(documents, "ConfigMap", volume["configMap"]["name"])["data"]) == {"ca.crt"}
        trusted = {v["name"] for v in container["env"] if v.get("value", "").startswith("/etc/")}
        assert trusted == {"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE"}, where
        assert mount["mountPath"] == "/etc/tspin/ca"


@pytest.mark.parametrize("name", ["aks", "eks"])
def test_the_claims_are_writable_for_the_user_of_the_tasks(name: str) -> None:
    documents, user = overlay(name), str(profile_of(name).user)
    claims = of_kind(documents, "PersistentVolumeClaim")
    assert len(claims) == 2
    for claim in claims:
        storage = named(documents, "StorageClass", claim["spec"]["storageClassName"])
        options = [f"{key}={value}" for key, value in storage["parameters"].items()]
        assert {f"uid={user}", f"gid={user}"} <= {*options, *storage.get("mountOptions", [])}
