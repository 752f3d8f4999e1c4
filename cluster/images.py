"""Whether an image is in its registry, asked as a node would ask: by tag or digest."""

from __future__ import annotations

import base64
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import urllib3

from tspin_cluster.finding import Finding

__all__ = ["check_image"]

_ACCEPT = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
_HUB = "docker.io"
_LOCAL = ("localhost", "127.0.0.1", "[::1]")
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True)
class _Image:
    registry: str
    """Host and port, as ~/.docker/config.json names it."""
    name: str
    reference: str
    """Tag or digest."""

    @classmethod
    def of(cls, text: str) -> _Image:
        name, _, digest = text.partition("@")
        host, slash, rest = name.partition("/")
        if not slash or not (set(host) & set(".:") or host == "localhost"):
            host, rest = _HUB, name if slash else f"library/{name}"
        rest, colon, tag = rest.rpartition(":") if ":" in rest else (rest, "", "")
        return cls(host, rest, digest or (tag if colon else "latest"))

    @property
    def url(self) -> str:
        host = "registry-1.docker.io" if self.registry == _HUB else self.registry
        # Plain http as docker does it: with a registry on this machine, and no other.
        scheme = "http" if host.rpartition(":")[0] in _LOCAL else "https"
        return f"{scheme}://{host}/v2/{self.name}/manifests/{self.reference}"


def check_image(text: str) -> Finding:
    """Look an image up with the credentials of ~/.docker/config.json, or with none.

    Args:
        text: Its reference: registry/name:tag or registry/name@sha256:...
    """
    image = _Image.of(text)
    # Nodes pull with an identity of their own: what is denied here may be open to them.
    unknown = "; a node may see more: try it there, or docker login here"
    try:
        # Where nothing is let out, every image waits for this long.
        retries = urllib3.Retry(total=3, connect=0, read=0)
        with urllib3.PoolManager(retries=retries, timeout=5.0) as pool:
            status = _status(pool, image)
    except urllib3.exceptions.HTTPError as error:
        return Finding("warn", f"cannot tell: {image.registry} cannot be reached: {error}")
    if status == 200:
        return Finding("ok", f"{image.reference} is there")
    if status in (401, 403):
        return Finding("warn", f"cannot tell: {image.registry} answers {status}{unknown}")
    if status == 404:
        mend = "push it (docs/guides/images.md), or name one that is there in the profile's images"
        return Finding("fail", f"{image.registry} has no {image.name} {image.reference}", "", mend)
    return Finding("warn", f"cannot tell: {image.registry} answers {status}")


def _status(pool: urllib3.PoolManager, image: _Image) -> int:
    headers = {"Accept": _ACCEPT}
    answer = pool.request("HEAD", image.url, headers=headers)
    challenge = answer.headers.get("WWW-Authenticate", "")
    if answer.status != 401 or not challenge:
        return int(answer.status)
    scheme, _, rest = challenge.partition(" ")
    login = _login(image.registry)
    if scheme.lower() == "basic":
        if login is None:
            return 401
        headers["Authorization"] = f"Basic {login}"
    else:
        token = _token(pool, dict(_PARAMETER.findall(rest)), image, login)
        if token is None:
            return 401
        headers["Authorization"] = f"Bearer {token}"
    return int(pool.request("HEAD", image.url, headers=headers).status)


def _token(
    pool: urllib3.PoolManager, challenge: dict[str, str], image: _Image, login: str | None
) -> str | None:
    """A token of the realm that the registry names, without a login where there is none."""
    realm = challenge.get("realm", "")
    address = urlsplit(realm)
    if address.scheme != "https" and address.hostname not in _LOCAL:
        return None  # A login in the clear.
    scope = challenge.get("scope", f"repository:{image.name}:pull")
    query = urlencode({"service": challenge.get("service", ""), "scope": scope})
    headers = {"Authorization": f"Basic {login}"} if login else {}
    answer = pool.request("GET", f"{realm}?{query}", headers=headers)
    if answer.status != 200:
        return None
    try:
        document: dict[str, Any] = json.loads(answer.data)
    except ValueError:
        return None
    return document.get("token") or document.get("access_token")


def _login(registry: str) -> str | None:
    """Name and password for a registry, as basic authentication has them; helpers are not run."""
    folder = os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker"
    path = Path(folder) / "config.json"
    if not path.is_file():
        return None
    try:
        logins = json.loads(path.read_bytes()).get("auths", {})
        key = "https://index.docker.io/v1/" if registry == _HUB else registry
        entry = logins.get(key) or logins.get(f"https://{registry}") or {}
        if "username" in entry and "password" in entry:
            both = f"{entry['username']}:{entry['password']}"
            return base64.b64encode(both.encode()).decode()
        login: str | None = entry.get("auth")
    except (ValueError, AttributeError):
        return None
    return login
