"""What an object or a profile names is in the render."""

import pytest
from rendered import (
    OVERLAYS,
    Document,
    containers,
    named,
    names,
    of_kind,
    overlay,
    pod_templates,
    training_templates,
)

from tspin_pipelines.profiles.profile import load_profile, profile_names

CLUSTER_SCOPED = {
    "ClusterQueue",
    "ComputeClass",
    "EC2NodeClass",
    "Namespace",
    "NodePool",
    "PriorityClass",
    "ResourceFlavor",
    "StorageClass",
    "WorkloadPriorityClass",
}
PODS = {"aks": 4, "eks": 4, "gke": 4, "kind-cpu": 3, "onprem": 4}
"""Pod templates of each overlay: a run, a retraining, the cleaning, and with GPUs a node."""
NAMING = {
    "ServiceAccount": 4,
    "RoleBinding": 2,
    "ExternalSecret": 3,
    "SecretStore": 1,
    "LocalQueue": 1,
    "NodePool": 0,
    "CronJob": 2,
}
"""How many of each kind that names others an overlay has, ..."""
OTHERS: dict[str, dict[str, int]] = {
    "aks": {},
    "eks": {"ExternalSecret": 2, "NodePool": 7},
    "gke": {},
    "kind-cpu": {"ServiceAccount": 3, "ExternalSecret": 0, "SecretStore": 0, "LocalQueue": 0},
    "onprem": {"ExternalSecret": 4},
}
"""... but for these."""
BY_OVERLAY = {load_profile(name).overlay: load_profile(name) for name in profile_names()}


def secrets(documents: list[Document]) -> dict[str, set[str]]:
    """Secrets that the render makes, through External Secrets, and their keys."""
    return {
        d["spec"]["target"]["name"]: {data["secretKey"] for data in d["spec"]["data"]}
        for d in of_kind(documents, "ExternalSecret")
    }


def missing(documents: list[Document], pod: Document) -> list[str]:
    """What a pod names and the render does not have."""
    there = {
        "ServiceAccount": names(documents, "ServiceAccount"),
        "PriorityClass": names(documents, "PriorityClass"),
        "ConfigMap": names(documents, "ConfigMap"),
        "PersistentVolumeClaim": names(documents, "PersistentVolumeClaim"),
        "Secret": set(secrets(documents)),
    }
    wanted = [
        ("ServiceAccount", pod["serviceAccountName"]),
        ("PriorityClass", pod["priorityClassName"]),
    ]
    wanted += [("Secret", secret["name"]) for secret in pod.get("imagePullSecrets", [])]
    for volume in pod.get("volumes", []):
        if "persistentVolumeClaim" in volume:
            wanted.append(("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]))
        if "configMap" in volume:
            wanted.append(("ConfigMap", volume["configMap"]["name"]))
        if "secret" in volume:
            wanted.append(("Secret", volume["secret"]["secretName"]))
    for container in containers(pod):
        for source in container.get("envFrom", []):
            wanted += [(KINDS[key], value["name"]) for key, value in source.items()]
        for variable in container.get("env", []):
            for key, value in variable.get("valueFrom", {}).items():
                if key in KINDS:
                    wanted.append((KINDS[key], value["name"]))
    return [f"{kind}/{name}" for kind, name in wanted if name not in there[kind]]


KINDS = {
    "configMapRef": "ConfigMap",
    "configMapKeyRef": "ConfigMap",
    "secretRef": "Secret",
    "secretKeyRef": "Secret",
}


@pytest.mark.parametrize("name", OVERLAYS)
def test_what_a_pod_names_is_in_the_render(name: str) -> None:
    documents = overlay(name)
    templates = list(pod_templates(documents))
    assert len(templates) == PODS[name]
    for where, template in templates:
        assert missing(documents, template["spec"]) == [], where
        mounted = {m["name"] for c in containers(template["spec"]) for m in c["volumeMounts"]}
        assert mounted <= {volume["name"] for volume in template["spec"]["volumes"]}, where


@pytest.mark.parametrize("name", OVERLAYS)
def test_what_other_objects_name_is_in_the_render(name: str) -> None:
    documents = overlay(name)
    assert {kind: len(of_kind(documents, kind)) for kind in NAMING} == NAMING | OTHERS[name]
    accounts = of_kind(documents, "ServiceAccount")
    for account in accounts:
        for secret in account.get("imagePullSecrets", []):
            assert secret["name"] in secrets(documents)
    for binding in of_kind(documents, "RoleBinding"):
        assert binding["roleRef"]["name"] in names(documents, "Role")
        for subject in binding["subjects"]:
            assert subject["name"] in names(documents, "ServiceAccount")
            assert subject["namespace"] == "tspin"
    for external in of_kind(documents, "ExternalSecret"):
        assert external["spec"]["secretStoreRef"]["name"] in names(documents, "SecretStore")
    for store in of_kind(documents, "SecretStore"):
        assert "tspin-secrets" in str(store["spec"])
        assert "tspin-secrets" in names(documents, "ServiceAccount")
    for queue in of_kind(documents, "LocalQueue"):
        assert queue["spec"]["clusterQueue"] in names(documents, "ClusterQueue")
    for pool in of_kind(documents, "NodePool"):
        node_class = pool["spec"]["template"]["spec"]["nodeClassRef"]["name"]
        assert node_class in names(documents, "EC2NodeClass")
    retraining = named(documents, "CronJob", "tspin-retrain")["spec"]["jobTemplate"]
    labels = retraining["metadata"]["labels"]
    queue = labels.get("kueue.x-k8s.io/queue-name")
    assert ({queue} if queue else set()) == names(documents, "LocalQueue")
    priority = labels.get("kueue.x-k8s.io/priority-class")
    assert ({priority} - {None}) <= names(documents, "WorkloadPriorityClass")


@pytest.mark.parametrize("name", OVERLAYS)
def test_objects_are_in_the_namespace_and_there_once(name: str) -> None:
    documents = overlay(name)
    assert len(documents) > 20
    for document in documents:
        expected = None if document["kind"] in CLUSTER_SCOPED else "tspin"
        assert document["metadata"].get("namespace") == expected, document["metadata"]["name"]
    keys = [(d["apiVersion"], d["kind"], d["metadata"]["name"]) for d in documents]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("name", OVERLAYS)
def test_what_a_profile_names_is_in_its_overlay(name: str) -> None:
    documents, profile = overlay(name), BY_OVERLAY[name]
    made = secrets(documents)
    assert profile.namespace in names(documents, "Namespace")
    assert profile.service_account in names(documents, "ServiceAccount")
    assert set(profile.images.pull_secrets) <= set(made)
    assert ({profile.queue} if profile.queue else set()) == names(documents, "LocalQueue")
    runtime = {profile.training_runtime} if profile.training_runtime else set()
    assert runtime == names(documents, "TrainingRuntime")
    for stage in (getattr(profile.stages, key) for key in type(profile.stages).model_fields):
        assert ({stage.priority} - {None}) <= names(documents, "WorkloadPriorityClass")
        for volume in stage.volumes:
            assert volume.claim in names(documents, "PersistentVolumeClaim")
        for secret in stage.secrets:
            assert set(secret.keys) <= made[secret.name]
        for settings in stage.config_maps:
            assert set(settings.keys) == set(named(documents, "ConfigMap", settings.name)["data"])


def test_azures_webhook_finds_the_pods_of_its_accounts() -> None:
    label = ("azure.workload.identity/use", "true")
    templates = training_templates(overlay("aks"))
    assert len(templates) == PODS["aks"] - 1
    for where, template in templates.items():
        account = named(overlay("aks"), "ServiceAccount", template["spec"]["serviceAccountName"])
        assert "azure.workload.identity/client-id" in account["metadata"]["annotations"]
        assert label in template["metadata"]["labels"].items(), where
    profile = load_profile("aks-a100")
    assert label in profile.labels(profile.stages.train).items()


@pytest.mark.parametrize("name", [n for n in profile_names() if load_profile(n).training_runtime])
def test_the_nodes_of_a_training_mount_what_its_launcher_mounts(name: str) -> None:
    profile = load_profile(name)
    (runtime,) = [
        document
        for document in of_kind(overlay(profile.overlay), "TrainingRuntime")
        if document["metadata"]["name"] == profile.training_runtime
    ]
    job = runtime["spec"]["template"]["spec"]["replicatedJobs"][0]
    pod = job["template"]["spec"]["template"]["spec"]
    claims = {
        volume["name"]: volume["persistentVolumeClaim"]["claimName"]
        for volume in pod["volumes"]
        if "persistentVolumeClaim" in volume
    }
    mounted = {
        (claims.get(m["name"]), m["mountPath"]) for m in pod["containers"][0]["volumeMounts"]
    }
    shared = [v for v in profile.stages.transfer.volumes if v in profile.stages.train.volumes]
    assert shared
    assert {(volume.claim, volume.path) for volume in shared} <= mounted
