"""Which other registry, and where: `model-registry=https://host`, `mlflow=http://host:5000`."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from urllib.parse import urlsplit

from tspin.errors import InputError

__all__ = ["MLFLOW", "MODEL_REGISTRY", "Address"]

MODEL_REGISTRY, MLFLOW = "model-registry", "mlflow"
_KINDS = {
    MODEL_REGISTRY: ("mr_openapi", "'tspin[registry]'"),
    MLFLOW: ("mlflow", "'tspin[mlflow]'"),
}
"""By kind of registry: the module of its client, and what pip calls the package."""
_PLAIN = {MODEL_REGISTRY: 8080, MLFLOW: 80}
"""Ports of `http://` where none is given; Model Registry's client has this one
(model_registry/_client.py of 0.3.18)."""


@dataclass(frozen=True)
class Address:
    """One mirror."""

    kind: str
    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def of(cls, text: str) -> Address:
        """Read what `--mirror` is given.

        Raises:
            InputError: it is no such address, or has a user, password, query or fragment.
        """
        kind, separator, url = text.partition("=")
        # First of all: the message would show a password.
        if "@" in url:
            raise InputError(
                f"--mirror {kind}=...: the address has a user or password, which others on this "
                "machine could read; docs/guides/mirrors.md says where the client finds them"
            )
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise _no_address(text, str(error)) from None
        if kind not in _KINDS or not separator:
            raise _no_address(text, f"begins with none of {', '.join(f'{k}=' for k in _KINDS)}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise _no_address(text, "is no http:// or https:// address")
        if parts.query or parts.fragment or any(letter.isspace() for letter in url):
            raise _no_address(text, "has more than host, port and path")
        port = port or (443 if parts.scheme == "https" else _PLAIN[kind])
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        return cls(kind, parts.scheme, host, port, parts.path.rstrip("/"))

    @property
    def url(self) -> str:
        """Of the server, its port always named."""
        return f"{self.scheme}://{self.host}:{self.port}{self.path}"

    def __str__(self) -> str:
        """As `--mirror` takes it."""
        return f"{self.kind}={self.url}"

    def check_installed(self) -> None:
        """Refuse a mirror whose client is missing.

        Raises:
            InputError: it is not installed.
        """
        module, package = _KINDS[self.kind]
        if find_spec(module) is None:
            raise InputError(f"--mirror {self}: its client is not installed; pip install {package}")


def _no_address(text: str, why: str) -> InputError:
    return InputError(
        f"--mirror {text!r}: {why}; expected {MODEL_REGISTRY}=https://HOST[:PORT] or "
        f"{MLFLOW}=http://HOST[:PORT]"
    )
