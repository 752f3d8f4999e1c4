"""Every pod of every overlay meets the restricted standard; so do the network and the roles."""

import copy
import ipaddress

import pytest
from rendered import (
    OVERLAYS,
    containers,
    named,
    names,
    of_kind,
    overlay,
    pod_templates,
    render,
)
from restricted import house_violations, violations


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_pod_is_restricted(name: str) -> None:
    templates = dict(pod_templates(overlay(name)))
    assert {"Job/tspin-run", "CronJob/tspin-retrain"} <= set(templates)
    for where, template in templates.items():
        assert violations(template["spec"]) == [], where
        assert house_violations(template["spec"]) == [], where


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda pod, c: pod.update(hostNetwork=True), "pod: hostNetwork"),
        (lambda pod, c: pod["volumes"].append({"name": "x", "hostPath": {}}), "is a hostPath"),
        (lambda pod, c: pod["securityContext"].update(runAsUser=0), "pod: runAsUser is 0"),
        (lambda pod, c: pod["securityContext"].pop("runAsNonRoot"), "runAsNonRoot is not true"),
        (lambda pod, c: pod["securityContext"].pop("seccompProfile"), "seccompProfile is not set"),
        (lambda pod, c: c["securityContext"].update(privileged=True), "tspin: privileged"),
        (lambda pod, c: c["securityContext"].pop("capabilities"), "are not dropped"),
        (
            lambda pod, c: c["securityContext"]["capabilities"].update(add=["SYS_ADMIN"]),
            "are added",
        ),
        (
            lambda pod, c: c["securityContext"].pop("allowPrivilegeEscalation"),
            "allowPrivilegeEscalation is not false",
        ),
        (lambda pod, c: c.update(ports=[{"hostPort": 80}]), "hostPort"),
        (
            lambda pod, c: c["securityContext"].update(readOnlyRootFilesystem=False),
            "the root file system is writable",
        ),
    ],
)
def test_what_the_standard_forbids_is_found(change, expected: str) -> None:
    template = named(overlay("gke"), "Job", "tspin-run")["spec"]["template"]
    pod = copy.deepcopy(template["spec"])
    change(pod, pod["containers"][0])
    assert expected in "; ".join(violations(pod) + house_violations(pod))


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_namespace_enforces_it(name: str) -> None:
    labels = named(overlay(name), "Namespace", "tspin")["metadata"]["labels"]
    for mode in ("enforce", "warn", "audit"):
        assert labels[f"pod-security.kubernetes.io/{mode}"] == "restricted"


@pytest.mark.parametrize("name", OVERLAYS)
def test_images_have_a_version(name: str) -> None:
    for where, template in pod_templates(overlay(name)):
        for container in containers(template["spec"]):
            repository, _, tag = container["image"].rpartition(":")
            assert repository and "/" not in tag, (where, container["image"])
            assert tag not in ("", "latest"), where


@pytest.mark.parametrize("name", OVERLAYS)
def test_no_secret_is_in_git(name: str) -> None:
    assert names(overlay(name), "Secret") == set()


@pytest.mark.parametrize("name", OVERLAYS)
def test_roles_name_what_they_need(name: str) -> None:
    documents = overlay(name)
    assert not of_kind(documents, "ClusterRole", "ClusterRoleBinding")
    for role in of_kind(documents, "Role"):
        for rule in role["rules"]:
            for words in (rule["apiGroups"], rule["resources"], rule["verbs"]):
                assert "*" not in words, role["metadata"]["name"]
            if "secrets" in rule["resources"]:
                assert rule["resourceNames"], role["metadata"]["name"]
                assert rule["verbs"] == ["get"]


@pytest.mark.parametrize("name", OVERLAYS)
def test_traffic_is_denied_by_default_and_never_reaches_node_metadata(name: str) -> None:
    policies = of_kind(overlay(name), "NetworkPolicy")
    deny = next(p for p in policies if p["metadata"]["name"] == "default-deny")
    assert deny["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    # On GKE this address is the cluster's own server, which hides the node's identity.
    expected = ["allow-workload-identity"] if name == "gke" else []
    assert [p["metadata"]["name"] for p in policies if reaches(p, "169.254.169.254")] == expected


def reaches(policy: dict, address: str) -> bool:
    wanted = ipaddress.ip_address(address)
    blocks = [
        to["ipBlock"]
        for rule in policy["spec"].get("egress", [])
        for to in rule["to"]
        if "ipBlock" in to
    ]
    return any(
        wanted in ipaddress.ip_network(block["cidr"])
        and not any(wanted in ipaddress.ip_network(hole) for hole in block.get("except", []))
        for block in blocks
    )


def lets_out(policies: list[dict], protocol: str, port: int, *, namespace: str = "", ip: str = ""):
    """The policies on every pod that allow a connection to a namespace's pods or an address."""
    found = []
    for policy in policies:
        if policy["spec"]["podSelector"]:
            continue
        for rule in policy["spec"].get("egress", []):
            ports = [(entry["protocol"], entry["port"]) for entry in rule["ports"]]
            to = [peer.get("namespaceSelector", {}).get("matchLabels", {}) for peer in rule["to"]]
            named = namespace in [labels.get("kubernetes.io/metadata.name") for labels in to]
            if (protocol, port) in ports and (named if namespace else reaches(policy, ip)):
                found.append(policy["metadata"]["name"])
    return found


@pytest.mark.parametrize("name", OVERLAYS)
def test_tasks_reach_what_they_need_and_nothing_else(name: str) -> None:
    policies = of_kind(overlay(name), "NetworkPolicy")
    for protocol in ("UDP", "TCP"):
        assert lets_out(policies, protocol, 53, namespace="kube-system")
    # Kubeflow's launcher: metadata, the API server by gRPC and HTTP, SeaweedFS, MinIO.
    for port in (8080, 8887, 8888, 8333, 9000):
        assert lets_out(policies, "TCP", port, namespace="kubeflow"), port
    # Kubernetes' own API, which Argo's executor reports to; S3 and the hub.
    for port, ip in ((443, "10.96.0.1"), (6443, "172.18.0.2"), (443, "52.216.1.1")):
        assert lets_out(policies, "TCP", port, ip=ip), (port, ip)
    assert not lets_out(policies, "TCP", 3306, namespace="kubeflow")
    assert not lets_out(policies, "TCP", 80, ip="52.216.1.1")


@pytest.mark.parametrize("name", OVERLAYS)
def test_nodes_of_a_training_reach_the_status_server_of_the_trainer(name: str) -> None:
    spec = named(overlay(name), "NetworkPolicy", "allow-trainer-status")["spec"]
    ((rule,),) = (spec["egress"],)
    (peer,) = rule["to"]
    (places,) = peer["namespaceSelector"]["matchExpressions"]
    assert "kubeflow-system" in places["values"]
    assert rule["ports"] == [{"protocol": "TCP", "port": 10443}]
    (selected,) = spec["podSelector"]["matchExpressions"]
    assert selected["key"] == "jobset.sigs.k8s.io/jobset-name"


def test_mlflow_is_reached_where_it_is_named_and_nowhere_else() -> None:
    def policy(documents: list[dict]) -> dict:
        return named(documents, "NetworkPolicy", "allow-mlflow")["spec"]

    assert policy(overlay("onprem"))["egress"] == []
    spec = policy(render("examples/air-gapped"))
    selector = {"matchLabels": {"kubernetes.io/metadata.name": "mlflow"}}
    assert spec["egress"] == [{"to": [{"namespaceSelector": selector}]}]
    assert spec["podSelector"] == {}


@pytest.mark.parametrize("name", OVERLAYS)
def test_no_mirror_is_reached_until_a_profile_names_one(name: str) -> None:
    policy = named(overlay(name), "NetworkPolicy", "allow-mirrors")["spec"]
    assert (policy["egress"], policy["policyTypes"]) == ([], ["Egress"])


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_pods_of_pipelines_may_do_what_argo_and_kubeflow_do_in_their_name(name: str) -> None:
    rules = named(overlay(name), "Role", "tspin-pipeline")["rules"]

    def may(group: str, resource: str, verb: str, object_name: str = "") -> bool:
        return any(
            group in rule["apiGroups"]
            and resource in rule["resources"]
            and verb in rule["verbs"]
            and object_name in rule.get("resourceNames", [object_name])
            for rule in rules
        )

    assert may("argoproj.io", "workflowtaskresults", "create")
    assert may("argoproj.io", "workflowtaskresults", "patch")
    assert may("argoproj.io", "workflowtasksets", "watch")
    assert may("argoproj.io", "workflowtasksets/status", "patch")
    assert may("", "configmaps", "get", "kfp-launcher")
    assert may("", "secrets", "get", "mlpipeline-minio-artifact")
    assert may("", "pods", "get")
    # The first task, which looks whether a run could end well.
    for group, resource, verb, object_name in (
        ("", "namespaces", "get", "tspin"),
        ("", "persistentvolumeclaims", "get", "tspin-cache"),
        ("", "serviceaccounts", "get", "tspin-pipeline"),
        ("", "configmaps", "get", "tspin-s3"),
        ("", "resourcequotas", "list", ""),
        ("kueue.x-k8s.io", "localqueues", "get", "tspin"),
        ("trainer.kubeflow.org", "trainingruntimes", "get", "tspin-torch"),
    ):
        assert may(group, resource, verb, object_name), resource
    assert not may("", "secrets", "get", "tspin-hub")
    assert not may("", "pods", "create")
