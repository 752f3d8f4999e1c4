"""A Hub on this machine: as much of its HTTP interface as an upload by its real client needs."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.ports import served

__all__ = ["Hub", "hub"]


@dataclass
class Hub:
    """What was sent."""

    url: str = ""
    created: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    """By path, as committed."""
    objects: dict[str, bytes] = field(default_factory=dict)
    """Large files by SHA-256, as uploaded."""
    tokens: set[str | None] = field(default_factory=set)


@contextmanager
def hub(*, refuse: int | None = None) -> Iterator[Hub]:
    """Serve until the block ends; with `refuse`, answer a new repository with that status."""
    state = Hub()

    class Handler(_Handler):
        hub, status = state, refuse

    with served(Handler) as state.url:
        yield state


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    status: int | None

    def do_POST(self) -> None:
        body = self._body()
        self.hub.tokens.add(self.headers.get("Authorization"))
        if self.path == "/api/repos/create":
            return self._create(json.loads(body))
        if self.path.endswith("/preupload/main"):
            return self._preupload(json.loads(body)["files"])
        if self.path.endswith("/info/lfs/objects/batch"):
            return self._batch(json.loads(body)["objects"])
        if self.path.endswith("/commit/main"):
            return self._commit([json.loads(line) for line in body.splitlines()])
        if self.path == "/api/validate-yaml":
            return self._answer({"errors": [], "warnings": []})
        return self._answer({"error": self.path}, 404)

    def do_PUT(self) -> None:
        body, oid = self._body(), self.path.rpartition("/")[2]
        wrong = hashlib.sha256(body).hexdigest() != oid
        self.hub.objects[oid] = body
        self._answer({}, 400 if wrong else 200)

    def log_message(self, *_: Any) -> None:
        """The test's output stays its own."""

    def _create(self, asked: dict[str, Any]) -> None:
        if self.status is not None:
            return self._answer({"error": "You don't have the rights"}, self.status)
        self.hub.created.append(asked)
        name = f"{asked.get('organization')}/{asked['name']}"
        return self._answer({"url": f"{self.hub.url}/{name}", "name": name})

    def _preupload(self, files: list[dict[str, Any]]) -> None:
        answers = [
            {
                "path": each["path"],
                "uploadMode": "lfs" if each["path"].endswith(".safetensors") else "regular",
                "shouldIgnore": False,
                "oid": None,
            }
            for each in files
        ]
        self._answer({"files": answers})

    def _batch(self, objects: list[dict[str, Any]]) -> None:
        answers = [
            {**each, "actions": {"upload": {"href": f"{self.hub.url}/lfs/{each['oid']}"}}}
            for each in objects
        ]
        self._answer({"transfer": "basic", "objects": answers})

    def _commit(self, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                self.hub.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.hub.files[value["path"]] = self.hub.objects[value["oid"]]
        name = self.path.removeprefix("/api/models/").removesuffix("/commit/main")
        url = f"{self.hub.url}/{name}/commit/{'a' * 40}"
        self._answer({"commitUrl": url, "commitOid": "a" * 40, "pullRequestUrl": None})

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _answer(self, value: Any, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
