"""A Kubeflow Pipelines server: how to reach it, and what its refusals mean."""

from __future__ import annotations

import json
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import urllib3
from kfp import Client, client
from kfp_server_api import ApiException

from tspin.errors import InputError, TspinError

__all__ = ["Server", "find_token"]

HOST_VARIABLE = "KFP_HOST"
TOKEN_VARIABLE = "KFP_TOKEN"  # noqa: S105  (the name, not the token)
CONNECT_SECONDS = 10.0


def find_token(file: Path | None) -> str | None:
    """The bearer token from a file, or from the environment; None where neither is given.

    Raises:
        InputError: the file is not there or empty.
    """
    if file is None:
        return os.environ.get(TOKEN_VARIABLE) or None
    if not file.is_file():
        raise InputError(f"{file}: no such file; expected a bearer token for the server")
    token = file.read_text(encoding="utf-8").strip()
    if not token:
        raise InputError(f"{file}: is empty; expected a bearer token for the server")
    return token


@dataclass(frozen=True)
class Server:
    """Where pipelines are submitted."""

    host: str
    """URL of the API, such as https://kubeflow.example.com/pipeline."""
    namespace: str
    token: str | None = None
    in_cluster: bool = False
    """Take the token of the pod's service account (a projected volume)."""
    ca_file: Path | None = None

    def __repr__(self) -> str:
        """Without the token."""
        return f"Server({self.host}, namespace {self.namespace})"

    @classmethod
    def of(
        cls,
        host: str | None,
        namespace: str,
        *,
        token_file: Path | None = None,
        in_cluster: bool = False,
        ca_file: Path | None = None,
    ) -> Server:
        """From options, and the environment where they say nothing.

        Args:
            host: URL of the API; without it the environment, then the cluster that this
                runs in.
            namespace: Of the runs.
            token_file: With a bearer token.
            in_cluster: Whether this runs in the cluster.
            ca_file: Certificates that are trusted besides the system's.

        Raises:
            InputError: no host, not a URL, or no token where one is named.
        """
        place = host or os.environ.get(HOST_VARIABLE)
        if not place and in_cluster:
            place = "http://ml-pipeline.kubeflow.svc.cluster.local:8888"
        if not place:
            raise InputError(
                f"no host; give --host https://... or set {HOST_VARIABLE} (through "
                "kubectl port-forward it is http://localhost:8888)"
            )
        address = urlsplit(place)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise InputError(
                f"host is {place!r}; expected a URL such as https://kubeflow.example.com"
            )
        if ca_file is not None and not ca_file.is_file():
            raise InputError(f"{ca_file}: no such file; expected certificates (PEM)")
        token = None if in_cluster else find_token(token_file)
        return cls(place.rstrip("/"), namespace, token, in_cluster, ca_file)

    def connect(self) -> Client:
        """A client of the server, which answers.

        Raises:
            TspinError: it cannot be reached, or refuses the token.
        """
        address = urlsplit(self.host)
        port = address.port or (443 if address.scheme == "https" else 80)
        try:
            socket.create_connection((address.hostname, port), CONNECT_SECONDS).close()
        except OSError as error:
            raise TspinError(f"{self.host}: cannot be reached: {error}") from None
        credentials = client.ServiceAccountTokenVolumeCredentials() if self.in_cluster else None
        with warnings.catch_warnings(), self.told():
            warnings.simplefilter("ignore", FutureWarning)  # About servers before 2.0.
            return Client(
                host=self.host,
                namespace=self.namespace,
                existing_token=self.token,
                credentials=credentials,
                ssl_ca_cert=None if self.ca_file is None else str(self.ca_file),
            )

    @contextmanager
    def told(self) -> Iterator[None]:
        """Say what a refusal means.

        Raises:
            InputError: the server finds fault with what was sent.
            TspinError: it refuses the caller, fails, or cannot be reached.
        """
        try:
            yield
        except ApiException as error:
            raise self._refused(error) from None
        except urllib3.exceptions.MaxRetryError as error:
            raise TspinError(f"{self.host}: cannot be reached: {error.reason}") from None

    def _refused(self, error: ApiException) -> TspinError:
        message = _message(error)
        if error.status == 401:
            hint = (
                f"set {TOKEN_VARIABLE} or --token-file" if self.token is None else "it may be old"
            )
            return TspinError(f"{self.host}: does not accept the token (401); {hint}")
        if error.status == 403:
            return TspinError(
                f"{self.host}: denies it in namespace '{self.namespace}' (403): {message}"
            )
        if error.status in (400, 404, 409, 422):
            return InputError(f"{self.host}: refused ({error.status}): {message}")
        if not error.status:
            return TspinError(f"{self.host}: {error.reason}")
        return TspinError(f"{self.host}: answered {error.status}: {message}")


def _message(error: ApiException) -> str:
    try:
        answer = json.loads(error.body)
        return str(answer.get("error_message") or answer.get("message") or answer)
    except (TypeError, ValueError, AttributeError):
        return str(error.body or error.reason)[:2000]
