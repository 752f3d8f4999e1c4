"""What a pod must reach: names resolve, and connections are let out."""

from __future__ import annotations

import os
import socket
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from tspin.machine.check import Status
from tspin_cluster.finding import Finding

__all__ = ["Endpoint", "check_endpoint", "endpoints"]

_SECONDS = 5.0
_PIPELINES = "ml-pipeline.kubeflow"
_OFF = ("", "0", "false", "no", "off")


class Endpoint(NamedTuple):
    """A server, or the proxy on the way to it."""

    name: str
    host: str
    port: int
    needed: bool = True
    """Whether every run talks to it; who has all models on a claim needs neither hub nor S3."""


def endpoints() -> list[Endpoint]:
    """What a task's environment says that it may talk to."""
    variables = os.environ
    api = variables.get("KUBERNETES_SERVICE_HOST", "kubernetes.default.svc")
    servers = [
        Endpoint("Kubernetes API", api, int(variables.get("KUBERNETES_SERVICE_PORT", "443"))),
        Endpoint("Kubeflow Pipelines", _PIPELINES, 8887),  # gRPC, which the launcher speaks.
    ]
    named = variables.get("AWS_ENDPOINT_URL_S3") or variables.get("AWS_ENDPOINT_URL")
    region = variables.get("AWS_REGION") or variables.get("AWS_DEFAULT_REGION")
    if named:
        servers.append(_outside("S3", named, needed=True))
    elif region:
        servers.append(_outside("S3", f"https://s3.{region}.amazonaws.com", needed=False))
    if variables.get("HF_HUB_OFFLINE", "").lower() in _OFF:
        hub = variables.get("HF_ENDPOINT") or "https://huggingface.co"
        servers.append(_outside("hub", hub, needed=False))
    return servers


def check_endpoint(endpoint: Endpoint) -> Finding:
    """Whether its name is known, and whether it takes a connection from here."""
    place = f"{endpoint.host}:{endpoint.port}"
    status: Status = "fail" if endpoint.needed else "warn"
    try:
        socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        mend = "the NetworkPolicy allow-dns must admit the cluster's DNS; docs/guides/runbook.md"
        return Finding(status, f"{endpoint.host} has no address: {error.strerror}", "", mend)
    try:
        socket.create_connection((endpoint.host, endpoint.port), _SECONDS).close()
    except OSError as error:
        mend = (
            "a NetworkPolicy of this namespace must let it out, and one of the other side's let it "
            "in: kubectl get networkpolicies"
        )
        detail = f"no connection to {place}: {error.strerror or error}"
        return Finding(status, detail, "", mend)
    return Finding("ok", place)


def _outside(name: str, url: str, *, needed: bool) -> Endpoint:
    """A server outside of the cluster, behind the proxy where there is one."""
    address = urlsplit(url)
    host, port = address.hostname or "", address.port or (80 if address.scheme == "http" else 443)
    proxy = getproxies_environment().get(address.scheme)
    if proxy and not proxy_bypass(host):
        through = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        name, host, port = f"{name}, by proxy", through.hostname or "", through.port or 3128
    return Endpoint(name, host, port, needed)
