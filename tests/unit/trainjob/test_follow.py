"""Why a TrainJob failed is said, whatever becomes of the logs of its nodes."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

pytest.importorskip("kubernetes", reason="the Kubernetes client is not installed")

from tests.ports import served
from tspin.errors import TspinError
from tspin_trainjob.cluster import Cluster
from tspin_trainjob.follow import follow

FAILED = {"type": "Failed", "status": "True", "reason": "PodFailurePolicy", "message": "spot"}
INDEX = "batch.kubernetes.io/job-completion-index"


class _Api(BaseHTTPRequestHandler):
    """A failed TrainJob of three nodes; `log` is how the API answers for the logs."""

    log: tuple[int, str, int]
    """Status, body, and the length that is announced."""

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        status, body = 200, json.dumps(self._object(path))
        length = len(body)
        if path.endswith("/log"):
            status, body, length = self.log
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body.encode())

    def _object(self, path: str) -> dict[str, Any]:
        if path.endswith("/pods"):
            metadata = [{"name": f"node-{i}", "labels": {INDEX: str(i)}} for i in range(3)]
            return {"items": [{"metadata": m, "status": {"phase": "Failed"}} for m in metadata]}
        return {"metadata": {}, "status": {"conditions": [FAILED]}}

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.mark.parametrize(
    "log",
    [
        (404, json.dumps({"message": "pods not found"}), 29),
        (400, json.dumps({"message": "container is waiting to start"}), 44),
        (403, json.dumps({"message": "forbidden"}), 24),
        (200, "2026-01-01T00:00:00Z half a l", 1000),
    ],
    ids=["gone", "not started", "forbidden", "broken off"],
)
def test_a_log_that_cannot_be_read_hides_no_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: tuple[int, str, int]
) -> None:
    said: list[str] = []
    with served(type("Api", (_Api,), {"log": log})) as url:
        kubeconfig = tmp_path / "kubeconfig"
        contexts = [{"name": "x", "context": {"cluster": "c", "user": "u"}}]
        clusters = [{"name": "c", "cluster": {"server": url}}]
        document = {"clusters": clusters, "users": [{"name": "u", "user": {}}]}
        kubeconfig.write_text(
            yaml.safe_dump(document | {"contexts": contexts, "current-context": "x"})
        )
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        with pytest.raises(TspinError, match=r"^TrainJob t failed: PodFailurePolicy: spot$"):
            follow(Cluster("tspin"), "t", say=said.append, every=1.0)
    notes = [line for line in said if "its log cannot be read" in line]
    assert [line.partition(":")[0] for line in notes] == ["node 1", "node 2"]
