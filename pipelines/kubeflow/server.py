"""A Kubeflow Pipelines server: how to reach it, and what its refusals mean."""

from __future__ import annotations

import ipaddress
import json
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import urllib3
from kfp import Client, client
from kfp_server_api import ApiException

from tspin.errors import InputError, TspinError
from tspin_pipelines.kubeflow.token import TOKEN_VARIABLE, Token, find_token

__all__ = ["Access", "Server"]

HOST_VARIABLE = "KFP_HOST"
CONNECT_SECONDS = 10.0


@dataclass(frozen=True)
class Access:
    """How a server is called: as whom, and on whose word."""

    token_file: Path | None = None
    """With a bearer token."""
    token_command: str | None = None
    """Prints one."""
    insecure_token: bool = False
    """Whether a token may go over plain HTTP to another host."""
    in_cluster: bool = False
    """Take the token of the pod's service account (a projected volume)."""
    ca_file: Path | None = None
    """Certificates that are trusted besides the system's."""


@dataclass(frozen=True)
class Server:
    """Where pipelines are submitted."""

    host: str
    """URL of the API, such as https://kubeflow.example.com/pipeline."""
    namespace: str
    token: Token | None = None
    in_cluster: bool = False
    """Take the token of the pod's service account (a projected volume)."""
    ca_file: Path | None = None

    def __repr__(self) -> str:
        """Without the token."""
        return f"Server({self.host}, namespace {self.namespace})"

    @classmethod
    def of(cls, host: str | None, namespace: str, access: Access | None = None) -> Server:
        """From options, and the environment where they say nothing.

        Args:
            host: URL of the API; without it the environment, then the cluster that this
                runs in.
            namespace: Of the runs.
            access: How this may call the server; None brings what the environment has.

        Raises:
            InputError: no host, not a URL, no token where one is named, or one that would be
                sent where others can read it.
            TspinError: the command that prints the token failed.
        """
        access = access or Access()
        place = host or os.environ.get(HOST_VARIABLE)
        if not place and access.in_cluster:
            place = "http://ml-pipeline.kubeflow.svc.cluster.local:8888"
        if not place:
            raise InputError(
                f"no host; give --host https://... or set {HOST_VARIABLE} (through "
                "kubectl port-forward it is http://localhost:8888)"
            )
        address = _address(place)
        if access.ca_file is not None and not access.ca_file.is_file():
            raise InputError(f"{access.ca_file}: no such file; expected certificates (PEM)")
        inside = access.in_cluster
        token = None if inside else find_token(access.token_file, access.token_command)
        if (token or inside) and not access.insecure_token:
            _refuse_plain_http(address, in_cluster=inside)
        return cls(place.rstrip("/"), namespace, token, inside, access.ca_file)

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
                credentials=credentials or self.token,
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
        if self.token is not None:
            message = self.token.hidden(message)
        if error.status == 401:
            return self._unauthenticated()
        if error.status == 403:
            return TspinError(
                f"{self.host}: denies it in namespace '{self.namespace}' (403): {message}"
            )
        if error.status in (400, 404, 409, 422):
            return InputError(f"{self.host}: refused ({error.status}): {message}")
        if not error.status:
            return TspinError(f"{self.host}: {error.reason}")
        return TspinError(f"{self.host}: answered {error.status}: {message}")

    def _unauthenticated(self) -> TspinError:
        # Multi-user Kubeflow asks for a token through a port-forward as well, which goes past the
        # gateway that would name the user; the audience is that of its TokenReview.
        made = (
            f"--token-command 'kubectl -n {self.namespace} create token tspin-submit --audience "
            "pipelines.kubeflow.org'"
        )
        if self.token is None:
            hint = f"give one with {made}, with --token-file, or set {TOKEN_VARIABLE}"
        else:
            self.token.forget()
            hint = f"it may be old, or made for another audience; {made} makes one"
        return TspinError(f"{self.host}: does not accept the token (401); {hint}")


def _address(host: str) -> SplitResult:
    try:
        address = urlsplit(host)
        well_formed = address.scheme in ("http", "https") and bool(address.hostname)
        well_formed = well_formed and address.port != 0
    except ValueError:  # A port that is no number, a bracket that is not closed.
        well_formed = False
    if not well_formed:
        raise InputError(f"host is {host!r}; expected a URL such as https://kubeflow.example.com")
    if "@" in address.netloc:
        raise InputError(
            f"host is {host!r}; expected a URL without user and password, which would be sent "
            "nowhere: the server takes a token (--token-file, --token-command)"
        )
    return address


def _refuse_plain_http(address: SplitResult, *, in_cluster: bool) -> None:
    host = str(address.hostname)
    inside = in_cluster and host.endswith((".svc", ".svc.cluster.local"))
    if address.scheme == "https" or inside or _is_loopback(host):
        return
    raise InputError(
        f"host is {address.geturl()!r}: the token would cross the network in the clear; expected "
        "https://, or a port-forward and http://localhost; --insecure-token sends it all the same"
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _message(error: ApiException) -> str:
    try:
        answer = json.loads(error.body)
        return str(answer.get("error_message") or answer.get("message") or answer)
    except (TypeError, ValueError, AttributeError):
        return str(error.body or error.reason)[:2000]
