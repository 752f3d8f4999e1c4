"""A registry of images on loopback (Debian's `docker-registry`), which may ask who one is."""

from __future__ import annotations

import base64
import datetime
import json
import os
import shutil
import subprocess
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.ports import free_port

__all__ = ["PASSWORD", "USER", "ImageRegistry", "TokenServer", "need_registry"]

USER, PASSWORD = "pusher", "opensesame"
_HTPASSWD = f"{USER}:$2y$04$MWEwqvBgmzflQ7SqLWooh.JBmsPTqqZCoFftPj7dOePaGDgL249ru\n"  # bcrypt
_SECONDS = 600.0
"""In which it has started, however busy the machine is."""


def need_registry() -> str:
    """The program; the test is skipped where it is missing and need not be there."""
    program = shutil.which("docker-registry")
    if program is None:
        if os.environ.get("TSPIN_REQUIRE_CONTAINERS"):
            pytest.fail("docker-registry is not installed")
        pytest.skip("needs docker-registry: make test-containers")
    return program


class ImageRegistry:
    """Its images are in `folder`."""

    def __init__(self, folder: Path, auth: dict[str, Any] | None = None) -> None:
        """As its configuration has `auth`; None asks nobody who he is."""
        self._folder, self.host = folder, f"127.0.0.1:{free_port()}"
        self._auth = auth
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def with_passwords(cls, folder: Path) -> ImageRegistry:
        """Lets in `USER` with `PASSWORD`."""
        folder.mkdir()
        (folder / "htpasswd").write_text(_HTPASSWD)
        return cls(folder, {"htpasswd": {"realm": "Images", "path": str(folder / "htpasswd")}})

    def start(self) -> None:
        program = need_registry()
        self._folder.mkdir(exist_ok=True)
        settings: dict[str, Any] = {
            "version": 0.1,
            "log": {"level": "warn"},
            "storage": {"filesystem": {"rootdirectory": str(self._folder / "images")}},
            "http": {"addr": self.host},
        }
        if self._auth is not None:
            settings["auth"] = self._auth
        path = self._folder / "config.yml"
        path.write_text(yaml.safe_dump(settings))
        with (self._folder / "log").open("ab") as log:
            command = [program, "serve", str(path)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        began = time.monotonic()
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() - began > _SECONDS:
                self.stop()
                pytest.fail((self._folder / "log").read_text())
            time.sleep(0.02)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def digest(self, name: str, tag: str) -> str | None:
        """What a tag names; None where there is none."""
        # Of a kind that is not accepted it says that there is none.
        kind = ", ".join(f"application/vnd.oci.image.{k}.v1+json" for k in ("index", "manifest"))
        url = f"http://{self.host}/v2/{name}/manifests/{tag}"
        answer = requests.head(url, headers={"Accept": kind}, auth=(USER, PASSWORD), timeout=60)
        return answer.headers["Docker-Content-Digest"] if answer.ok else None

    def _answers(self) -> bool:
        try:
            return requests.get(f"http://{self.host}/v2/", timeout=5).status_code in (200, 401)
        except requests.RequestException:
            return False


class TokenServer(BaseHTTPRequestHandler):
    """Gives `USER` a token for what is asked and no more, as the registries of the clouds do."""

    key: Any
    certificate: x509.Certificate
    asked: list[str]
    protocol_version = "HTTP/1.1"

    @classmethod
    def made(cls, folder: Path) -> tuple[type[TokenServer], dict[str, Any]]:
        """A server of its own key, and what a registry is told of it but for its address."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tokens")])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        path = folder / "tokens.pem"
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        values = {"key": key, "certificate": certificate, "asked": []}
        made = type("Tokens", (cls,), values)
        return made, {"service": "images", "issuer": "tokens", "rootcertbundle": str(path)}

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        scopes = query.get("scope", [])
        self.asked.extend(scopes)
        sent = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        known = self.headers.get("Authorization") == f"Basic {sent}"
        access = []
        for scope in scopes if known else []:
            kind, name, actions = scope.split(":")
            access.append({"type": kind, "name": name, "actions": actions.split(",")})
        answer = json.dumps({"token": self._token(access)}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def _token(self, access: list[dict[str, Any]]) -> str:
        now = int(time.time())
        der = self.certificate.public_bytes(serialization.Encoding.DER)
        header = {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(der).decode()]}
        claims = {"iss": "tokens", "aud": "images", "sub": USER, "jti": str(now), "iat": now}
        claims |= {"nbf": now - 60, "exp": now + 600, "access": access}
        parts = [_encoded(json.dumps(part).encode()) for part in (header, claims)]
        signed = ".".join(parts).encode()
        signature = self.key.sign(signed, padding.PKCS1v15(), hashes.SHA256())
        return f"{signed.decode()}.{_encoded(signature)}"


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
