"""A Kubernetes API on loopback, as strict as the real one: token, role, known fields only."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml
from custom.trainer import TrainJob
from pydantic import ValidationError
from trainer_controller import Job, Node

from tests.ports import served

__all__ = ["KubernetesServer", "kubernetes_server"]

TOKEN = "a-service-account-token"
RBAC = Path(__file__).parents[2] / "k8s/base/rbac.yaml"
_JOBS = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/tspin/trainjobs"
_PODS = "/api/v1/namespaces/tspin/pods"
_VERBS = {"POST": "create", "GET": "get", "PATCH": "patch", "DELETE": "delete"}


def _allowed(role: str) -> set[tuple[str, str, str]]:
    """What the role in the manifests lets its bearer do: group, resource, verb."""
    found = set()
    for document in yaml.safe_load_all(RBAC.read_text()):
        if (document["kind"], document["metadata"]["name"]) == ("Role", role):
            for rule in document["rules"]:
                groups, kinds, verbs = rule["apiGroups"], rule["resources"], rule["verbs"]
                found |= {(group, k, v) for group in groups for k in kinds for v in verbs}
    return found


@dataclass
class KubernetesServer:
    """The TrainJobs of one namespace, and what was asked."""

    folder: Path
    unavailable: int = 0
    """How many requests it answers with 503."""
    installed: bool = True
    """Whether Kubeflow Trainer is."""
    machines: int = 8
    """How many pods find a node."""
    jobs: dict[str, Job] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    """Verbs on TrainJobs, in order."""
    url: str = ""

    @property
    def kubeconfig(self) -> Path:
        """How to reach it."""
        path = self.folder / "kubeconfig"
        cluster = {"name": "c", "cluster": {"server": self.url}}
        user = {"name": "u", "user": {"token": TOKEN}}
        context = {"name": "x", "context": {"cluster": "c", "user": "u"}}
        given = {"clusters": [cluster], "users": [user], "contexts": [context]}
        path.write_text(yaml.safe_dump(given | {"current-context": "x"}))
        return path

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> Any:
        """Status and document; a `Node` instead of a document is its log."""
        found = re.fullmatch(rf"(?:{_JOBS}|{_PODS})(?:/([^/]+))?(/log)?", path)
        if found is None:
            return 404, {"message": f"no route {path}"}
        name, log = found[1], found[2]
        group, kind = ("trainer.kubeflow.org", "trainjobs") if _JOBS in path else ("", "pods")
        verb = "list" if method == "GET" and name is None else _VERBS[method]
        if (group, kind + (log or ""), verb) not in _allowed("tspin-pipeline"):
            return 403, {"message": f"cannot {verb} resource {kind}{log or ''}"}
        if kind == "pods":
            return self._node(name) if log else self._list_pods(query)
        if not self.installed:
            return 404, {"message": "the server could not find the requested resource"}
        self.asked.append(verb)
        if verb == "create":
            return self._create(query, body)
        if name not in self.jobs:
            return 404, {"message": f"trainjobs {name} not found"}
        if verb == "patch":
            self.jobs[name].document["metadata"] |= body["metadata"]
        if verb == "delete":
            assert query["propagationPolicy"] == ["Background"]
            job = self.jobs.pop(name)
            threading.Thread(target=job.stop).start()
            return 200, job.shown()
        return 200, self.jobs[name].shown()

    def _create(self, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        if query.get("fieldValidation") != ["Strict"]:
            return 400, {"message": "this test wants strict field validation"}
        try:
            TrainJob.model_validate(body)
        except ValidationError as error:
            return 422, {"message": f"TrainJob is invalid: {error}"}
        name = body["metadata"]["name"]
        if name in self.jobs:
            return 409, {"message": f"trainjobs {name} already exists"}
        self.jobs[name] = Job(body, lambda: self.machines)
        return 201, self.jobs[name].shown()

    def _list_pods(self, query: dict[str, list[str]]) -> tuple[int, Any]:
        label, _, name = query["labelSelector"][0].partition("=")
        assert label == "jobset.sigs.k8s.io/jobset-name"
        nodes = self.jobs[name].nodes if name in self.jobs else []
        return 200, {"items": [node.pod(name) for node in nodes]}

    def _node(self, name: str) -> tuple[int, Any]:
        nodes = {node.name: node for job in self.jobs.values() for node in job.nodes}
        return (200, nodes[name]) if name in nodes else (404, {"message": f"pods {name} not found"})


class _Handler(BaseHTTPRequestHandler):
    state: KubernetesServer

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = json.loads(self.rfile.read(length)) if length else None
        address = urlsplit(self.path)
        if self.headers.get("authorization") != f"Bearer {TOKEN}":
            return self._send(401, {"message": "Unauthorized"})
        if self.state.unavailable:
            self.state.unavailable -= 1
            return self._send(503, {"message": "apiserver is shutting down"})
        query = parse_qs(address.query)
        status, answer = self.state.answer(self.command, address.path, query, body)
        if isinstance(answer, Node):
            with suppress(BrokenPipeError):  # Whoever listened has gone.
                self._stream(answer, query)
            return None
        return self._send(status, answer)

    def _stream(self, node: Node, query: dict[str, list[str]]) -> None:
        assert query["timestamps"] == ["True"]
        follow = query.get("follow") == ["True"]
        self.send_response(200)
        self.end_headers()
        sent = 0
        if "tailLines" in query:
            sent = max(0, len(node.lines) - int(query["tailLines"][0]))
        while True:
            with node.written:
                if follow and len(node.lines) == sent and node.running:
                    node.written.wait(timeout=1)
                new, sent = node.lines[sent:], len(node.lines)
            self.wfile.write("".join(new).encode())
            self.wfile.flush()
            if not new and not (follow and node.running):
                return

    def _send(self, status: int, answer: Any) -> None:
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815


@contextmanager
def kubernetes_server(folder: Path, **given: Any) -> Iterator[KubernetesServer]:
    """A server that ends with the block, and its nodes with it."""
    state = KubernetesServer(folder, **given)
    handler = type("Handler", (_Handler,), {"state": state})
    try:
        with served(handler) as state.url:
            yield state
    finally:
        for job in state.jobs.values():
            job.stop()
