"""A Hub on this machine that is read from: what its real clients ask for, no more."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.ports import served

__all__ = ["DatasetHub", "dataset_hub"]


@dataclass
class DatasetHub:
    """One data set, or one model, and what was asked of it."""

    name: str
    commits: Mapping[str, Mapping[str, bytes]]
    """By commit, the newest first: the files by path."""
    tags: Mapping[str, str]
    """Other names of commits."""
    kind: str = "datasets"
    url: str = ""
    asked: list[str] = field(default_factory=list)

    def commit(self, revision: str) -> str | None:
        """The commit that a revision names."""
        named = self.tags.get(revision, revision)
        newest = next(iter(self.commits))
        return newest if named == "main" else named if named in self.commits else None


@contextmanager
def dataset_hub(
    name: str,
    commits: Mapping[str, Mapping[str, bytes]],
    tags: Mapping[str, str] | None = None,
    kind: str = "datasets",
) -> Iterator[DatasetHub]:
    """Serve a data set, or one of another kind ("models"), until the block ends."""
    state = DatasetHub(name, commits, tags or {}, kind)

    class Handler(_Handler):
        hub = state

    with served(Handler) as state.url:
        yield state


class _Handler(BaseHTTPRequestHandler):
    hub: DatasetHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        api = f"/api/{self.hub.kind}/{self.hub.name}"
        folder = "" if self.hub.kind == "models" else f"/{self.hub.kind}"
        files = f"{folder}/{self.hub.name}/resolve/"
        if path == api or path.startswith(f"{api}/"):
            return self._describe(path.removeprefix(api).strip("/").split("/"))
        if path.startswith(files):
            revision, _, name = path.removeprefix(files).partition("/")
            return self._file(revision, name)
        return self._refuse("RepoNotFound")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"POST {path}")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = path.removeprefix(f"/api/{self.hub.kind}/{self.hub.name}/").split("/")
        if parts[0] != "paths-info":
            return self._refuse("RepoNotFound")
        entries = {entry["path"]: entry for entry in self._tree(parts[1])}
        return self._answer([entries[at] for at in json.loads(body)["paths"] if at in entries])

    def log_message(self, *_: Any) -> None:
        """The test's output stays its own."""

    def _describe(self, parts: list[str]) -> None:
        revision = parts[1] if len(parts) > 1 else "main"
        commit = self.hub.commit(revision)
        if commit is None:
            return self._refuse("RevisionNotFound")
        if parts[0] == "tree":
            folder = "/".join(parts[2:])
            within = (e for e in self._tree(revision) if not folder or e["path"].startswith(folder))
            return self._answer(list(within))
        files = [{"rfilename": path} for path in self.hub.commits[commit]]
        about = {"id": self.hub.name, "sha": commit, "siblings": files, "private": False}
        return self._answer(
            {**about, "gated": False, "disabled": False, "tags": [], "downloads": 0}
        )

    def _tree(self, revision: str) -> list[dict[str, Any]]:
        files = self.hub.commits[self.hub.commit(revision) or ""]
        folders = {path.rpartition("/")[0] for path in files} - {""}
        return [
            *({"type": "directory", "path": folder, "oid": "0" * 40} for folder in sorted(folders)),
            *(
                {"type": "file", "path": path, "size": len(data), "oid": _etag(data)}
                for path, data in files.items()
            ),
        ]

    def _file(self, revision: str, name: str) -> None:
        commit = self.hub.commit(revision)
        data = self.hub.commits.get(commit or "", {}).get(name)
        if commit is None or data is None:
            return self._refuse("EntryNotFound")
        headers = {"ETag": f'"{_etag(data)}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        asked = self.headers.get("Range")
        if asked is None or self.command == "HEAD":
            return self._send(200, data, headers)
        first, _, last = asked.removeprefix("bytes=").partition("-")
        begin, end = int(first), min(int(last or len(data) - 1), len(data) - 1)
        headers["Content-Range"] = f"bytes {begin}-{end}/{len(data)}"
        return self._send(206, data[begin : end + 1], headers)

    def _refuse(self, code: str) -> None:
        self._send(404, b"{}", {"X-Error-Code": code, "X-Error-Message": code})

    def _answer(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _etag(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()
