"""An image is looked up as a node would pull it; what is denied is no answer."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

pytest.importorskip("kubernetes", reason="the Kubernetes client is not installed")

from tests.ports import free_port, served
from tspin_cluster.images import _Image, check_image

LOGIN = base64.b64encode(b"me:my-password").decode()
DIGEST = "sha256:" + "0" * 64


class _Registry(BaseHTTPRequestHandler):
    """Repositories `open`, `token` (anybody gets one), `mine` (with a login), `basic`, `shut`, and
    `clear`, whose tokens would be asked for over plain http."""

    def do_HEAD(self) -> None:
        _, version, group, repository, manifests, reference = self.path.split("/")
        assert (version, group, manifests) == ("v2", "tspin", "manifests")
        assert "application/vnd.oci.image.index.v1+json" in self.headers["Accept"]
        given = self.headers.get("Authorization")
        wanted = {
            "token": "Bearer anybody",
            "mine": "Bearer me",
            "basic": f"Basic {LOGIN}",
            "clear": "?",
        }
        if repository == "shut":
            return self._send(403)
        if given != wanted.get(repository):
            host = "192.0.2.1" if repository == "clear" else self.headers["Host"]
            realm = f"http://{host}/token"
            bearer = f'Bearer realm="{realm}",service="here",scope="repository:{repository}:pull"'
            challenge = 'Basic realm="here"' if repository == "basic" else bearer
            return self._send(401, {"WWW-Authenticate": challenge})
        return self._send(200 if reference in ("0.1.0", DIGEST) else 404)

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        assert query["service"] == ["here"]
        mine = self.headers.get("Authorization") == f"Basic {LOGIN}"
        if query["scope"] == ["repository:mine:pull"] and not mine:
            return self._send(401)
        return self._send(200, body={"token": "me" if mine else "anybody"})

    def _send(self, code: int, headers: dict[str, str] | None = None, body: Any = "") -> None:
        content = json.dumps(body).encode()
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def registry() -> Iterator[str]:
    with served(_Registry) as url:
        yield url.removeprefix("http://")


@pytest.fixture
def logins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return tmp_path / "config.json"


@pytest.mark.parametrize(
    ("image", "status", "text"),
    [
        ("open:0.1.0", "ok", "0.1.0 is there"),
        (f"open@{DIGEST}", "ok", f"{DIGEST} is there"),
        (f"open:0.1.0@{DIGEST}", "ok", f"{DIGEST} is there"),
        ("open:0.2.0", "fail", "has no tspin/open 0.2.0"),
        ("token:0.1.0", "ok", "0.1.0 is there"),
        ("mine:0.1.0", "warn", "cannot tell: .* answers 401"),
        ("basic:0.1.0", "warn", "cannot tell: .* answers 401"),
        ("clear:0.1.0", "warn", "cannot tell: .* answers 401"),
        ("shut:0.1.0", "warn", "cannot tell: .* answers 403"),
    ],
)
def test_what_anybody_sees(registry: str, logins: Path, image: str, status: str, text: str) -> None:
    finding = check_image(f"{registry}/tspin/{image}")
    assert finding.status == status
    assert re.search(text, finding.detail)


@pytest.mark.parametrize("login", [{"auth": LOGIN}, {"username": "me", "password": "my-password"}])
def test_a_login_opens_what_is_private(registry: str, logins: Path, login: dict[str, str]) -> None:
    logins.write_text(json.dumps({"auths": {registry: login}}))
    for repository in ("mine", "basic"):
        assert check_image(f"{registry}/tspin/{repository}:0.1.0").status == "ok"
    finding = check_image(f"{registry}/tspin/mine:0.2.0")
    assert finding.status == "fail"
    assert "my-password" not in str(finding)


def test_a_registry_that_is_not_there_is_no_answer(logins: Path) -> None:
    finding = check_image(f"127.0.0.1:{free_port()}/tspin/cpu:0.1.0")
    assert finding.status == "warn"
    assert "cannot be reached" in finding.detail


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("python:3.12", "https://registry-1.docker.io/v2/library/python/manifests/3.12"),
        ("tspin/cpu", "https://registry-1.docker.io/v2/tspin/cpu/manifests/latest"),
        ("ghcr.io/a/b/train:c0ffee", "https://ghcr.io/v2/a/b/train/manifests/c0ffee"),
        ("localhost:5000/cpu:1", "http://localhost:5000/v2/cpu/manifests/1"),
    ],
)
def test_references_are_read_as_docker_reads_them(text: str, url: str) -> None:
    assert _Image.of(text).url == url
