"""`tspin deploy --apply` on a strict loopback API: all documents, or none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from custom import SCHEMAS
from pydantic import ValidationError
from served_models import champion, on_claim
from typer.testing import CliRunner

from tests.ports import served
from tspin.errors import InputError, TspinError
from tspin_pipelines.serving.commands import app

pytest.importorskip("kubernetes", reason="the Kubernetes client is not installed")

KINDS = {
    "v1": {"Service": "services"},
    "apps/v1": {"Deployment": "deployments"},
    "networking.k8s.io/v1": {"NetworkPolicy": "networkpolicies"},
    "serving.kserve.io/v1alpha2": {"LLMInferenceService": "llminferenceservices"},
}


@dataclass
class Cluster:
    """Objects by path, and what was asked."""

    folder: Path
    kinds: dict[str, dict[str, str]] = field(default_factory=lambda: dict(KINDS))
    objects: dict[str, Any] = field(default_factory=dict)
    denied: str | None = None
    asked: list[str] = field(default_factory=list)

    def answer(self, method: str, address: str, body: Any, kind: str) -> tuple[int, Any]:
        url = urlsplit(address)
        path, query = url.path, parse_qs(url.query)
        version = path.removeprefix("/apis/").removeprefix("/api/")
        if version in self.kinds:
            names = [{"name": name, "kind": k} for k, name in self.kinds[version].items()]
            return 200, {"resources": names}
        if method == "GET":
            missing = {"message": f"{path} not found"}
            return (200, self.objects[path]) if path in self.objects else (404, missing)
        if path.split("/")[-2] == self.denied:
            return 403, {"message": f"cannot patch resource {self.denied}"}
        if method == "DELETE":
            self.asked.append(f"delete {path.rpartition('/')[2]}")
            return 200, self.objects.pop(path)
        return self._apply(path, query, body, kind)

    def _apply(self, path: str, query: Any, body: Any, kind: str) -> tuple[int, Any]:
        if kind != "application/apply-patch+yaml" or query["fieldManager"] != ["tspin"]:
            return 415, {"message": "no server-side apply"}
        schema = SCHEMAS.get((body["apiVersion"], body["kind"]))
        try:
            if query["fieldValidation"] == ["Strict"] and schema is not None:
                schema.model_validate(body["spec"])
        except ValidationError as error:
            return 422, {"message": f"{body['kind']} is invalid: {error}"}
        if query.get("dryRun") != ["All"]:
            self.asked.append(f"apply {path.rpartition('/')[2]}")
            self.objects[path] = body
        return 200, body


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    state = Cluster(tmp_path)

    class Handler(BaseHTTPRequestHandler):
        def serve(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = json.loads(content) if content and content != b"null" else None
            kind = self.headers.get("Content-Type", "")
            code, answer = state.answer(self.command, self.path, body, kind)
            text = json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_PATCH = do_DELETE = serve  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with served(Handler) as url:
        contexts = [{"name": "x", "context": {"cluster": "c", "user": "u"}}]
        document = {
            "clusters": [{"name": "c", "cluster": {"server": url}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
            "contexts": contexts,
            "current-context": "x",
        }
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump(document))
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        champion(tmp_path, tmp_path / "registry", 1)
        champion(tmp_path, tmp_path / "registry", 2)
        yield state


def apply(cluster: Cluster, to: str, *options: object) -> str:
    path = on_claim(cluster.folder)
    asked = ["--registry", cluster.folder / "registry", "--profile", path, "--apply"]
    done = CliRunner().invoke(app, [str(one) for one in [*asked, "--to", to, *options]])
    if done.exception is not None:
        raise done.exception
    return done.stdout


def test_all_are_applied_and_a_canary_ends_with_the_next(cluster: Cluster) -> None:
    told = apply(cluster, "vllm", "--canary", 50, "--replicas", 2)
    assert told.splitlines()[0] == "deployment/tspin applied"
    assert cluster.asked == [
        *("apply tspin", "apply tspin", "apply tspin-requests"),
        *("apply tspin-canary", "apply tspin-canary"),
    ]
    told = apply(cluster, "vllm")
    assert told.splitlines()[3:] == [
        "deployment/tspin-canary deleted",
        "service/tspin-canary deleted",
    ]
    assert [path.rpartition("/")[2] for path in cluster.objects] == [
        *("tspin", "tspin", "tspin-requests"),
    ]


def test_a_canary_of_somebody_else_stays(cluster: Cluster) -> None:
    apply(cluster, "kserve", "--canary", 10)
    path = next(path for path in cluster.objects if path.endswith("tspin-canary"))
    del cluster.objects[path]["metadata"]["labels"]["app.kubernetes.io/managed-by"]
    apply(cluster, "kserve")
    assert path in cluster.objects


def test_a_cluster_without_kserve_is_told_so_and_gets_nothing(cluster: Cluster) -> None:
    del cluster.kinds["serving.kserve.io/v1alpha2"]
    with pytest.raises(
        InputError,
        match=r"no LLMInferenceService of serving\.kserve\.io/v1alpha2; install KServe 0",
    ):
        apply(cluster, "kserve")
    cluster.kinds["serving.kserve.io/v1alpha2"] = {"LLMInferenceServiceConfig": "x"}
    with pytest.raises(InputError, match="no LLMInferenceService"):
        apply(cluster, "kserve")
    assert cluster.asked == []


def test_nothing_is_applied_where_one_is_refused(cluster: Cluster) -> None:
    cluster.denied = "networkpolicies"
    with pytest.raises(TspinError, match=r"networkpolicy/tspin-requests \(403\): cannot patch"):
        apply(cluster, "vllm")
    assert cluster.asked == []
