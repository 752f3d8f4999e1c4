"""What a pod must reach: names resolve, and connections are let out."""

from __future__ import annotations

import socket
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

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


def endpoints() -> list[Endpoint]:
    """What a task's environment says that it will talk to."""
    servers = [
        Endpoint("Kubernetes API", *_kubernetes()),
        Endpoint("Kubeflow Pipelines", _PIPELINES, 8887),  # gRPC, which the launcher speaks.
    ]
    if address := _s3():
        servers.append(_outside("S3", address))
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in _OFF:
        servers.append(_outside("hub", os.environ.get("HF_ENDPOINT") or "https://huggingface.co"))
    return servers


def check_endpoint(endpoint: Endpoint) -> Finding:
    """Whether its name is known, and whether it takes a connection from here."""
    place = f"{endpoint.host}:{endpoint.port}"
    try:
        socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        mend = "the NetworkPolicy allow-dns must admit the cluster's DNS; docs/guides/runbook.md"
        return Finding("fail", f"{endpoint.host} has no address: {error.strerror}", "", mend)
    try:
        socket.create_connection((endpoint.host, endpoint.port), _SECONDS).close()
    except OSError as error:
        mend = (
            "a NetworkPolicy of this namespace must let it out, and one of the other side's let it "
            "in: kubectl get networkpolicies"
        )
        detail = f"no connection to {place}: {error.strerror or error}"
        return Finding("fail", detail, "", mend)
    return Finding("ok", place)


def _kubernetes() -> tuple[str, int]:
    host = os.environ.get("KUBERNETES_SERVICE_HOST", "kubernetes.default.svc")
    return host, int(os.environ.get("KUBERNETES_SERVICE_PORT", "443"))


def _s3() -> str | None:
    """The S3 endpoint that the client in a task takes; None where nothing names one."""
    named = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return named or (f"https://s3.{region}.amazonaws.com" if region else None)


def _outside(name: str, url: str) -> Endpoint:
    """A server outside of the cluster, behind the proxy where there is one."""
    address = urlsplit(url)
    host = address.hostname or ""
    proxy = getproxies_environment().get(address.scheme)
    if proxy and not proxy_bypass(host):
        through = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        return Endpoint(f"{name}, through the proxy", through.hostname or "", through.port or 3128)
    return Endpoint(name, host, address.port or (80 if address.scheme == "http" else 443))
