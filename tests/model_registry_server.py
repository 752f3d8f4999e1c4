"""Kubeflow Model Registry's REST API on loopback, as far as its client and the mirror call it.

Every request is validated by the client's own models (`mr_openapi`), with no field that they do not
know, as the Go server decodes it. Names are there once (409); custom properties that an update
names replace all that were there, and are kept where it names none (internal/core of kubeflow/hub).
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import mr_openapi
from pydantic import ValidationError

from tests.ports import free_port

__all__ = ["ModelRegistryServer"]

_BASE = "/api/model_registry/v1/"
_PAGE = 2
"""Small, so that a list of three has two pages."""


class ModelRegistryServer:
    """What is registered stays over stops; `hold` stops one request before it is carried out."""

    def __init__(self, token: str | None = None) -> None:
        self.port = free_port()
        self.token = token
        self.calls: list[str] = []
        self.models: dict[str, dict[str, Any]] = {}
        self.versions: dict[str, dict[str, Any]] = {}
        self.artifacts: dict[str, dict[str, Any]] = {}
        self.held, self._release = threading.Event(), threading.Event()
        self._holds: Callable[[str, str, Any], bool] | None = None
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None

    @property
    def mirror(self) -> str:
        """As `--mirror` takes it."""
        return f"model-registry=http://127.0.0.1:{self.port}"

    def start(self) -> None:
        handler = type("Handler", (_Handler,), {"registry": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        self._release.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def hold(self, holds: Callable[[str, str, Any], bool]) -> None:
        """Hold the first request of which this is true: of its method, path and body."""
        self.held.clear()
        self._release.clear()
        self._holds = holds

    def waited(self, method: str, path: str, body: Any) -> None:
        holds = self._holds
        if holds is not None and holds(method, path, body):
            self._holds = None
            self.held.set()
            self._release.wait()

    def flagged(self) -> list[str]:
        """The names of the versions that are marked as champion."""
        marked = [v for v in self.versions.values() if _property(v, "champion") is True]
        return [version["name"] for version in marked]

    def model(self, name: str) -> dict[str, Any]:
        (model,) = [model for model in self.models.values() if model["name"] == name]
        return model

    def version(self, name: str) -> dict[str, Any]:
        (version,) = [version for version in self.versions.values() if version["name"] == name]
        return version

    def property(self, thing: dict[str, Any], name: str) -> Any:
        """The value of a custom property; None where there is none."""
        return _property(thing, name)

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> Any:
        """Carry a request out; raises `_RefusedError`."""
        with self._lock:
            parts = [unquote(part) for part in path.split("/")]
            routes: dict[tuple[str, str], Callable[..., Any]] = {
                ("GET", "registered_models"): lambda: self._page(self.models.values(), query),
                ("GET", "registered_model"): lambda: _one(self.models, name=query["name"]),
                ("POST", "registered_models"): lambda: self._new_model(body),
                ("PATCH", "registered_models/"): lambda i: self._change(
                    self.models, i, body, mr_openapi.RegisteredModelUpdate
                ),
                ("GET", "registered_models/versions"): lambda i: self._page(
                    [v for v in self.versions.values() if v["registeredModelId"] == i], query
                ),
                ("GET", "model_version"): lambda: _one(
                    self.versions, name=query["name"], registeredModelId=query["parentResourceId"]
                ),
                ("POST", "model_versions"): lambda: self._new_version(body),
                ("PATCH", "model_versions/"): lambda i: self._change(
                    self.versions, i, body, mr_openapi.ModelVersionUpdate
                ),
                ("GET", "model_versions/artifacts"): lambda i: self._page(
                    [a for a in self.artifacts.values() if a["version"] == i], query
                ),
                ("POST", "model_versions/artifacts"): lambda i: self._new_artifact(i, body),
                ("GET", "model_artifact"): lambda: _one(
                    self.artifacts, name=query["name"], version=query["parentResourceId"]
                ),
                ("PATCH", "model_artifacts/"): lambda i: self._change(
                    self.artifacts, i, body, mr_openapi.ModelArtifactUpdate
                ),
            }
            route = parts[0] if len(parts) == 1 else f"{parts[0]}/{'/'.join(parts[2:])}"
            if (method, route) not in routes:
                raise _RefusedError(404, f"no such operation: {method} {path}")
            return routes[method, route](*parts[1:2])

    def _new_model(self, body: Any) -> Any:
        checked = _checked(body, mr_openapi.RegisteredModelCreate)
        return self._added(self.models, checked, ("name",))

    def _new_version(self, body: Any) -> Any:
        checked = _checked(body, mr_openapi.ModelVersionCreate)
        if checked["registeredModelId"] not in self.models:
            raise _RefusedError(400, "no registered model found")
        return self._added(self.versions, checked, ("name", "registeredModelId"))

    def _new_artifact(self, version: str, body: Any) -> Any:
        checked = _checked(body, mr_openapi.ModelArtifact)
        if version not in self.versions:
            raise _RefusedError(404, "no model version found")
        return self._added(self.artifacts, checked | {"version": version}, ("name", "version"))

    def _added(
        self, things: dict[str, dict[str, Any]], new: dict[str, Any], unique: tuple[str, ...]
    ) -> Any:
        if any(all(t.get(k) == new.get(k) for k in unique) for t in things.values()):
            raise _RefusedError(409, f"{new['name']} already exists")
        number = str(next(self._numbers))
        things[number] = {**new, "id": number}
        return things[number]

    def _change(
        self, things: dict[str, dict[str, Any]], number: str, body: Any, kind: type[Any]
    ) -> Any:
        if number not in things:
            raise _RefusedError(404, f"nothing found for id {number}")
        # Without the defaults of the client's model: what is not named stays as it is.
        things[number] |= {k: v for k, v in _checked(body, kind).items() if k in body}
        return things[number]

    def _page(self, things: Any, query: dict[str, str]) -> Any:
        begin = int(query.get("nextPageToken") or 0)
        there = list(things)
        size = min(_PAGE, int(query.get("pageSize", _PAGE)))
        end = begin + size
        more = str(end) if end < len(there) else ""
        page = there[begin:end]
        return {"items": page, "nextPageToken": more, "pageSize": size, "size": len(page)}


class _RefusedError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    registry: ModelRegistryServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def _handle(self) -> None:
        parts = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        content = self.rfile.read(length)
        body = json.loads(content) if content else None
        path = parts.path.removeprefix(_BASE)
        status = 201 if self.command == "POST" else 200
        try:
            token = self.registry.token
            if token is not None and self.headers.get("Authorization") != f"Bearer {token}":
                # As some proxies do: with what was sent.
                sent = str(self.headers.get("Authorization")).removeprefix("Bearer ")
                raise _RefusedError(401, f"no access with {sent}")
            self.registry.calls.append(f"{self.command} {path}")
            self.registry.waited(self.command, path, body)
            answer = self.registry.answer(self.command, path, dict(parse_qsl(parts.query)), body)
        except _RefusedError as refused:
            status, answer = refused.status, {"code": str(refused.status), "message": str(refused)}
        sent = json.dumps(answer).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)
        except OSError:
            pass  # Whoever asked was killed.

    do_GET = do_POST = do_PATCH = _handle  # noqa: N815  (as http.server calls them)


def _checked(body: Any, kind: type[Any]) -> dict[str, Any]:
    """A request's body, if the client's model of it takes it and knows each of its fields."""
    known = {field.alias or name for name, field in kind.model_fields.items()}
    try:
        checked = kind.from_dict(body)
    except (ValidationError, ValueError) as error:
        raise _RefusedError(400, str(error)) from None
    if unknown := body.keys() - known:
        raise _RefusedError(400, f"unknown fields {sorted(unknown)}")
    content: dict[str, Any] = json.loads(checked.to_json())
    return content


def _one(things: dict[str, dict[str, Any]], **fields: str) -> Any:
    found = [t for t in things.values() if all(t.get(k) == v for k, v in fields.items())]
    if len(found) != 1:
        raise _RefusedError(404, f"{len(found)} found for {fields}")
    return found[0]


def _property(thing: dict[str, Any], name: str) -> Any:
    value = dict(thing.get("customProperties", {}).get(name, {}))
    value.pop("metadataType", None)
    return next(iter(value.values()), None)
