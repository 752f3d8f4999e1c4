"""An image of a model in a registry of images, by oras: its tag is written when all is there."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tspin.errors import InputError, TspinError
from tspin.export.image import Blob, Image, ModelLayer

__all__ = ["Reference", "push_image"]

_REFERENCE = re.compile(
    r"(?P<host>localhost|[a-zA-Z0-9-]+(?:\.[a-zA-Z0-9-]+)+|[a-zA-Z0-9.-]+(?=:))(?P<port>:[0-9]+)?"
    r"/(?P<path>[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?",
    re.ASCII,
)
_DOCKER = {"docker.io": "registry-1.docker.io", "index.docker.io": "registry-1.docker.io"}
_DOCKER_LOGIN = "https://index.docker.io/v1/"
"""What `docker login` calls its own registry in config.json."""
_SECONDS = (10.0, 300.0)
"""To connect, and between two bytes of an answer."""


@dataclass(frozen=True)
class Reference:
    """Where an image goes: `registry.example.com/team/model:tag`."""

    host: str
    """With its port, if any."""
    path: str
    tag: str | None

    @classmethod
    def of(cls, text: str) -> Reference:
        """Read what `--oci` is given.

        Raises:
            InputError: it is no such reference, or oras is not installed.
        """
        match = _REFERENCE.fullmatch(text.removeprefix("oci://"))
        if match is None:
            raise InputError(
                f"--oci {text}: expected HOST[:PORT]/PATH[:TAG] in small letters, such as "
                "registry.example.com/team/model:1; a digest is made, not given"
            )
        for module in ("oras", "modelcar_base_image"):
            if find_spec(module) is None:
                raise InputError(f"--oci {text}: {module} is missing; pip install 'tspin[oci]'")
        return cls(match["host"] + (match["port"] or ""), match["path"], match["tag"])

    @property
    def repository(self) -> str:
        """Without the tag."""
        return f"{self.host}/{self.path}"


def push_image(folder: Path, reference: Reference, model: str) -> str:
    """Upload a model as an image; what the registry has already is not sent again.

    Killed anywhere, the tag names what it did before.

    Args:
        folder: Of the model.
        reference: Where to; without a tag, the first 12 digits of `model` are it.
        model: Content hash of the model.

    Returns:
        `HOST/PATH@sha256:...`, the same for the same files.

    Raises:
        TspinError: the registry cannot be reached, denies it, or does not take it.
    """
    import requests

    image = Image(folder, model)
    try:
        registry = _Registry(reference)
        for base in image.base_layers():
            registry.upload(base)
        for layer in image.layers:
            registry.upload(layer)
        for config in image.configs():
            registry.upload(config)
        for manifest in image.manifests():
            registry.put_manifest(manifest, manifest.digest)
        index = image.index()
        registry.put_manifest(index, reference.tag or model[:12])
    except requests.RequestException as error:
        raise TspinError(f"{reference.repository}: {_shortly(error)}") from None
    return f"{reference.repository}@{index.digest}"


class _Registry:
    """One repository, with the credentials that docker has for it."""

    def __init__(self, reference: Reference) -> None:
        import requests
        from oras.provider import Registry

        self._place = reference.repository
        host = _DOCKER.get(reference.host, reference.host)
        # As docker does: its own machine is spoken to without certificates.
        local = re.match(r"(localhost|127\.)", host) is not None
        self._base = f"{'http' if local else 'https'}://{host}"
        self._path = f"{self._base}/v2/{reference.path}"
        asked = requests.get(f"{self._base}/v2/", timeout=_SECONDS)
        challenge = asked.headers.get("WWW-Authenticate", "").lower()
        kind = "basic" if challenge.startswith("basic") else "token"
        self._oras = Registry(insecure=local, auth_backend=kind)
        _patient(self._oras.session)
        login = _DOCKER_LOGIN if reference.host in _DOCKER else reference.host
        self._authenticated(login)
        if kind == "basic" and not hasattr(self._oras.auth, "_basic_auth"):
            raise TspinError(
                f"{self._place}: wants a user and a password, and {_docker_config()} has none for "
                f"{login}; docker login {reference.host}, or podman login --authfile"
            )

    def upload(self, blob: Blob | ModelLayer) -> None:
        """Send a blob, unless it is there."""
        there = self._asked("HEAD", f"{self._path}/blobs/{blob.digest}", expected=(200, 404))
        if there.status_code == 200:
            return
        begun = self._asked("POST", f"{self._path}/blobs/uploads/", expected=(202,))
        place = begun.headers["Location"]
        place = place if place.startswith("http") else f"{self._base}{place}"
        place += ("&" if "?" in place else "?") + urlencode({"digest": blob.digest})
        # oras's own upload reads all of it into memory (oras/provider.py of 0.2.43, put_upload).
        headers = {"Content-Type": "application/octet-stream"}
        with blob.open() as stream:
            self._asked("PUT", place, expected=(201,), headers=headers, data=stream)

    def put_manifest(self, manifest: Blob, name: str) -> None:
        """Write a manifest under its digest or a tag."""
        headers = {"Content-Type": manifest.media_type}
        url = f"{self._path}/manifests/{name}"
        self._asked("PUT", url, expected=(201,), headers=headers, data=manifest.content)

    def _authenticated(self, login: str) -> None:
        from oras.container import Container

        path = _docker_config()
        try:
            settings = json.loads(path.read_bytes()) if path.is_file() else {}
        except ValueError as error:
            raise InputError(f"{path}: not valid JSON: {error}") from None
        # oras reads the one in the home folder and no other, whatever DOCKER_CONFIG says.
        self._oras.auth._auth_config = {"auths": {}, **settings}
        container = Container("none/none")
        container.registry = login
        self._oras.auth.load_configs(container)

    def _asked(self, method: str, url: str, *, expected: tuple[int, ...], **given: Any) -> Any:
        import requests

        auth = self._oras.auth
        headers = {**given.pop("headers", {}), **auth.get_auth_header()}
        try:
            answer = self._oras.do_request(url, method, headers=headers, **given)
            if answer.status_code == 401 and getattr(auth, "token", None):
                auth.token = None  # Expired, or only for reading; oras would send it again.
                answer = self._oras.do_request(url, method, headers=headers, **given)
        except requests.RequestException:
            raise
        except ValueError:  # oras: it has nothing that the registry asks for.
            raise TspinError(self._denied(method)) from None
        if answer.status_code in (401, 403):
            raise TspinError(self._denied(method))
        if answer.status_code not in expected:
            text = " ".join(answer.text.split())[:200]
            raise TspinError(f"{self._place}: {method} answered {answer.status_code}: {text}")
        return answer

    def _denied(self, method: str) -> str:
        return (
            f"{self._place}: denied ({method}); credentials are those of {_docker_config()}, and "
            "must be allowed to push there"
        )


def _patient(session: Any) -> None:
    """Give every call a time limit, and those that change nothing further tries."""
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    retry = Retry(
        3,
        allowed_methods=("GET", "HEAD"),
        backoff_factor=0.5,
        status_forcelist=(500, 502, 503, 504),
        raise_on_status=False,
    )
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    # oras names no limit in its calls (oras/provider.py of 0.2.43, do_request).
    session.request = partial(session.request, timeout=_SECONDS)


def _docker_config() -> Path:
    folder = os.environ.get("DOCKER_CONFIG")
    return (Path(folder) if folder else Path.home() / ".docker") / "config.json"


def _shortly(error: Exception) -> str:
    """Without the objects that requests names besides."""
    return re.sub(r"<[^>]*object at 0x[0-9a-f]+>:? ?", "", f"{type(error).__name__}: {error}")[:300]
