"""A Kubeflow Pipelines server on loopback as far as a client sees it, strict about what it gets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.ports import served

__all__ = ["KubeflowServer", "kubeflow_server"]

_API = "/apis/v2beta1"
_RUN_FIELDS = {
    "experiment_id",
    "display_name",
    "pipeline_spec",
    "runtime_config",
    "service_account",
}
_RECURRING_FIELDS = _RUN_FIELDS | {"mode", "trigger", "max_concurrency"}


@dataclass
class KubeflowServer:
    """What it answers, and what it was sent."""

    token: str | None = None
    """What callers must bring; None lets everyone in."""
    lifetime: int | None = None
    """How many looks at a run a token is good for: then `token` is the next of `later`."""
    later: list[str] = field(default_factory=list)
    echo: bool = False
    """Answers 500 with the token that it got, as debugging proxies do."""
    refusal: str | None = None
    """Why it takes no pipeline; None takes them."""
    unavailable: int = 0
    """How many looks at a run it answers with 503."""
    states: list[tuple[str, dict[str, str]]] = field(
        default_factory=lambda: [
            ("RUNNING", {"train": "RUNNING"}),
            ("SUCCEEDED", {"train": "SUCCEEDED", "report": "SUCCEEDED"}),
        ]
    )
    """State of the run and of its tasks at each look; the last one stays."""
    url: str = ""
    experiments: dict[str, str] = field(default_factory=dict)
    runs: list[dict[str, Any]] = field(default_factory=list)
    recurring: list[dict[str, Any]] = field(default_factory=list)
    looks: int = 0

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> Any:
        """Status and body of an answer."""
        if (method, path) == ("GET", f"{_API}/experiments"):
            return self._list_experiments(query)
        if (method, path) == ("POST", f"{_API}/experiments"):
            assert body["namespace"] == "tspin"
            self.experiments[body["display_name"]] = "e-1"
            return 200, {"experiment_id": "e-1", **body}
        if (method, path) == ("POST", f"{_API}/runs"):
            return self._create(self.runs, body, _RUN_FIELDS, {"run_id": "r-1", "state": "PENDING"})
        if (method, path) == ("POST", f"{_API}/recurringruns"):
            return self._create(
                self.recurring, body, _RECURRING_FIELDS, {"recurring_run_id": "rr-1"}
            )
        if method == "GET" and path == f"{_API}/runs/r-1":
            return self._look()
        return 404, {"message": f"no route {method} {path}"}

    def _list_experiments(self, query: dict[str, list[str]]) -> tuple[int, Any]:
        assert query["namespace"] == ["tspin"]
        wanted = json.loads(query["filter"][0])["predicates"][0]
        name = wanted.get("stringValue") or wanted.get("string_value")
        found = [
            {"experiment_id": identity, "display_name": known, "namespace": "tspin"}
            for known, identity in self.experiments.items()
            if known == name
        ]
        return 200, {"experiments": found, "total_size": len(found)}

    def _create(
        self, made: list[dict[str, Any]], body: Any, fields: set[str], answer: dict[str, str]
    ) -> tuple[int, Any]:
        unknown = set(body) - fields
        if unknown:
            return 400, {"message": f"unknown fields {sorted(unknown)}"}
        if self.refusal is not None:
            return 400, {"error_message": self.refusal}
        made.append(body)
        return 200, {**body, **answer}

    def _look(self) -> tuple[int, Any]:
        self.looks += 1
        if self.lifetime is not None and self.looks % self.lifetime == 0 and self.later:
            self.token = self.later.pop(0)
        if self.looks <= self.unavailable:
            return 503, {"message": "upstream connect error"}
        state, tasks = self.states[min(self.looks - self.unavailable, len(self.states)) - 1]
        details = [
            {"task_id": name, "display_name": name, "state": value} for name, value in tasks.items()
        ]
        found = {"run_id": "r-1", "state": state, "run_details": {"task_details": details}}
        if state == "FAILED":
            found["error"] = {"code": 13, "message": "the step train failed"}
        return 200, found


@contextmanager
def kubeflow_server(**given: Any) -> Iterator[KubeflowServer]:
    """A server that ends with the block."""
    state = KubeflowServer(**given)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Say nothing."""

        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(length)) if length else None
            address = urlsplit(self.path)
            if state.echo:
                token = self.headers.get("authorization", "").removeprefix("Bearer ")
                return self._send(500, {"message": f"token was {token}"})
            if state.token is not None and not self._is_let_in(state.token):
                return self._send(401, {"message": "unauthenticated"})
            status, answer = state.answer(self.command, address.path, parse_qs(address.query), body)
            return self._send(status, answer)

        def _is_let_in(self, token: str) -> bool:
            found = re.fullmatch(r"Bearer (.+)", self.headers.get("authorization", ""))
            return found is not None and found[1] == token

        def _send(self, status: int, answer: Any) -> None:
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _serve  # noqa: N815

    with served(Handler) as state.url:
        yield state
