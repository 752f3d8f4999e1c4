"""A cluster on loopback as its API shows it: what was applied, and what controllers make of it.

Paths, status fields and errors (`Status` objects) are those of Kubernetes 1.32, Kueue 0.19 and
Kubeflow Pipelines 2.17. Whoever asks is an administrator, or a service account that may do what
the roles say that were applied.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from rendered import Document, of_kind

from tests.ports import served

__all__ = ["ClusterApi", "cluster_api"]

PATCH = '{"templateDefaults":{"retryStrategy":{"retryPolicy":"Always","limit":"0"}}}'
# Of Kubeflow Pipelines 2.17, manifests/kustomize/third-party/argo/base.
DEFAULTS = "spec: {templateDefaults: {retryStrategy: {limit: '2', retryPolicy: OnError}}}"
_PATH = re.compile(
    r"/(?:api|apis/(?P<group>[^/]+))/(?P<version>[^/]+)"
    r"(?:/namespaces/(?P<namespace>[^/]+)(?=/))?/(?P<plural>[^/]+)(?:/(?P<name>[^/]+))?"
)
_CLASSES = {"storageclass": "storageclasses", "workloadpriorityclass": "workloadpriorityclasses"}


@dataclass
class ClusterApi:
    """The objects of a cluster by kind, namespace and name, and who asks for them."""

    folder: Path
    applied: list[Document]
    """What it begins with."""
    objects: dict[tuple[str, str, str], Document] = field(default_factory=dict)
    apis: dict[str, list[str]] = field(default_factory=dict)
    """Groups that only some clusters have, with their versions."""
    account: str | None = None
    """Who asks, of the namespace tspin; None is an administrator."""
    url: str = ""

    @property
    def kubeconfig(self) -> Path:
        """How to reach it."""
        path = self.folder / "kubeconfig"
        clusters = [{"name": "c", "cluster": {"server": self.url}}]
        users = [{"name": "u", "user": {"token": "a-token"}}]
        contexts = [{"name": "x", "context": {"cluster": "c", "user": "u"}}]
        document = {"clusters": clusters, "users": users, "contexts": contexts}
        path.write_text(yaml.safe_dump(document | {"current-context": "x"}))
        return path

    def begin(self) -> None:
        """As it was in the beginning: Kubeflow, Kueue and Trainer, and the documents applied."""
        self.account = None
        self.objects = {}
        self.apis = {
            "argoproj.io": ["v1alpha1"],
            "kueue.x-k8s.io": ["v1beta2", "v1beta1"],
            "trainer.kubeflow.org": ["v1alpha1"],
        }
        self.apply([*_kubeflow(), *self.applied])

    def of(self, kind: str, name: str, namespace: str = "tspin") -> Document:
        """An object, to be changed."""
        return self.objects[kind, namespace, name]

    def remove(self, kind: str, name: str, namespace: str = "tspin") -> None:
        """As if nobody had made it."""
        del self.objects[kind, namespace, name]

    def apply(self, documents: list[Document]) -> None:
        """Take documents as they are, and do what controllers do with them."""
        for document in documents:
            kind, metadata = document["kind"], document["metadata"]
            key = (kind, metadata.get("namespace", ""), metadata["name"])
            self.objects[key] = json.loads(json.dumps(document))
        for quota in of_kind(documents, "ResourceQuota"):
            hard = quota["spec"]["hard"]
            status = {"hard": {**hard}, "used": dict.fromkeys(hard, "0")}
            self.of("ResourceQuota", quota["metadata"]["name"])["status"] = status
        for claim in of_kind(documents, "PersistentVolumeClaim"):
            metadata, spec = claim["metadata"], claim["spec"]
            bound = {"phase": "Bound", "accessModes": spec["accessModes"]}
            bound["capacity"] = spec["resources"]["requests"]
            self.of("PersistentVolumeClaim", metadata["name"], metadata["namespace"])["status"] = (
                bound
            )
        for queue in of_kind(documents, "LocalQueue"):
            active = {"type": "Active", "status": "True", "reason": "Ready", "message": "ready"}
            self.of("LocalQueue", queue["metadata"]["name"])["status"] = {"conditions": [active]}
        for external in of_kind(documents, "ExternalSecret"):
            keys = {entry["secretKey"]: "dmFsdWU=" for entry in external["spec"]["data"]}
            metadata = {"name": external["spec"]["target"]["name"], "namespace": "tspin"}
            self.apply([{"kind": "Secret", "metadata": metadata, "data": keys}])
        for flavor in of_kind(documents, "ResourceFlavor"):
            self._grow(flavor)

    def _grow(self, flavor: Document) -> None:
        """A node of each pool, large enough for everything."""
        spec = flavor["spec"]
        labels = {**spec.get("nodeLabels", {}), "nvidia.com/cuda.driver-version.major": "580"}
        sizes = {"cpu": "192", "memory": "2Ti", "nvidia.com/gpu": "8"}
        node = {
            "kind": "Node",
            "metadata": {"name": flavor["metadata"]["name"], "labels": labels},
            "spec": {"taints": spec.get("nodeTaints", [])},
            "status": {"allocatable": sizes},
        }
        self.apply([node])

    def answer(self, path: str) -> tuple[int, Document]:
        """Status and document for a GET."""
        if path == "/version":
            return 200, {"major": "1", "minor": "32", "gitVersion": "v1.32.4"}
        if group := re.fullmatch(r"/apis/([^/]+)", path):
            versions = [{"version": version} for version in self.apis.get(group[1], [])]
            answer = {"kind": "APIGroup", "name": group[1], "versions": versions}
            return (200, answer) if versions else self._unknown()
        parts = _PATH.fullmatch(path)
        if parts is None:
            return self._unknown()
        group, version, plural, name = parts["group"] or "", parts["version"], parts["plural"], ""
        if group in self.apis and version not in self.apis[group]:
            return self._unknown()
        if not self._may(group, plural, parts["name"], parts["namespace"]):
            return self._forbidden(group, plural, parts)
        return self._find(plural, parts["name"], parts["namespace"] or name)

    def _find(self, plural: str, name: str | None, namespace: str) -> tuple[int, Document]:
        kinds = {_plural(kind): kind for kind, _, _ in self.objects}
        kind = kinds.get(plural)
        if name is not None:
            document = self.objects.get((str(kind), namespace, name))
            message = f'{plural} "{name}" not found'
            return (200, document) if document else _status(404, "NotFound", message)
        items = [
            document
            for (other, place, _), document in self.objects.items()
            if other == kind and namespace in ("", place)
        ]
        return 200, {"kind": f"{kind}List", "items": items}

    def _may(self, group: str, plural: str, name: str | None, namespace: str | None) -> bool:
        if self.account is None:
            return True
        # A Namespace counts as in itself, which is why a Role may let read it.
        place = name if plural == "namespaces" else namespace
        verb = "list" if name is None else "get"
        return place == "tspin" and any(
            group in rule["apiGroups"]
            and plural in rule["resources"]
            and verb in rule["verbs"]
            and name in rule.get("resourceNames", [name])
            for rule in self.of("Role", self.account)["rules"]
        )

    def _forbidden(self, group: str, plural: str, parts: re.Match[str]) -> tuple[int, Document]:
        user = f"system:serviceaccount:tspin:{self.account}"
        verb = "list" if parts["name"] is None else "get"
        scope = f'in the namespace "{parts["namespace"]}"'
        place = scope if parts["namespace"] else "at the cluster scope"
        subject = f'{plural} "{parts["name"]}"' if parts["name"] else plural
        what = f'cannot {verb} resource "{plural}" in API group "{group}" {place}'
        message = f'{subject} is forbidden: User "{user}" {what}'
        return _status(403, "Forbidden", message)

    @staticmethod
    def _unknown() -> tuple[int, Document]:
        return _status(404, "NotFound", "the server could not find the requested resource")


def _status(code: int, reason: str, message: str) -> tuple[int, Document]:
    status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return code, status | {"message": message, "reason": reason, "code": code}


def _plural(kind: str) -> str:
    name = kind.lower()
    return _CLASSES.get(name, f"{name}s")


def _kubeflow() -> list[Document]:
    """Kubeflow Pipelines 2.17 with the documented patch, Argo's defaults as shipped."""
    in_kubeflow = {"namespace": "kubeflow"}
    variable = {"name": "COMPILED_PIPELINE_SPEC_PATCH", "value": PATCH}
    pod = {"containers": [{"name": "ml-pipeline-api-server", "env": [variable]}]}
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "20Gi"}}}
    return [
        {
            "kind": "Deployment",
            "metadata": {"name": "ml-pipeline", **in_kubeflow},
            "spec": {"template": {"spec": pod}},
        },
        {
            "kind": "ConfigMap",
            "metadata": {"name": "workflow-controller-configmap", **in_kubeflow},
            "data": {"workflowDefaults": DEFAULTS},
        },
        {
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "seaweedfs-pvc", **in_kubeflow},
            "spec": claim,
        },
    ]


@contextmanager
def cluster_api(folder: Path, documents: list[Document]) -> Iterator[ClusterApi]:
    """A cluster with Kubeflow, Kueue and Trainer, and with the documents applied.

    Args:
        folder: For the kubeconfig.
        documents: Of an overlay, with what a cluster has once.
    """
    state = ClusterApi(folder, documents)
    state.begin()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            code, answer = state.answer(urlsplit(self.path).path)
            if self.headers.get("authorization") != "Bearer a-token":
                code, answer = _status(401, "Unauthorized", "Unauthorized")
            content = json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with served(Handler) as state.url:
        yield state
