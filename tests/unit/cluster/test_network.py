"""What a task will talk to is read from its environment, and tried."""

from __future__ import annotations

import socket

import pytest

pytest.importorskip("kubernetes", reason="the Kubernetes client is not installed")

from tests.ports import free_port
from tspin_cluster.network import Endpoint, check_endpoint, endpoints


def test_a_server_that_listens_is_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        finding = check_endpoint(Endpoint("S3", "127.0.0.1", port))
    assert (finding.status, finding.detail) == ("ok", f"127.0.0.1:{port}")


@pytest.mark.parametrize(("needed", "status"), [(True, "fail"), (False, "warn")])
def test_a_connection_that_is_refused(needed: bool, status: str) -> None:
    port = free_port()
    finding = check_endpoint(Endpoint("S3", "127.0.0.1", port, needed))
    assert finding.status == status
    assert finding.detail == f"no connection to 127.0.0.1:{port}: Connection refused"
    assert "NetworkPolicy" in finding.mend


def test_a_name_without_an_address() -> None:
    finding = check_endpoint(Endpoint("S3", "nowhere.invalid", 443))
    assert finding.status == "fail"
    assert "nowhere.invalid has no address" in finding.detail
    assert "allow-dns" in finding.mend


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, [("hub", "huggingface.co", 443, False)]),
        ({"HF_HUB_OFFLINE": "1"}, []),
        (
            {"HF_ENDPOINT": "https://hub.example.com:8443"},
            [("hub", "hub.example.com", 8443, False)],
        ),
        (
            {"HF_HUB_OFFLINE": "1", "AWS_REGION": "eu-central-1"},
            [("S3", "s3.eu-central-1.amazonaws.com", 443, False)],
        ),
        (
            {"HF_HUB_OFFLINE": "1", "AWS_ENDPOINT_URL_S3": "http://s3.example.com:9000"},
            [("S3", "s3.example.com", 9000, True)],
        ),
        (
            {
                "HTTPS_PROXY": "http://proxy.example.com:8080",
                "NO_PROXY": ".internal",
                "AWS_ENDPOINT_URL_S3": "https://s3.internal",
            },
            [("S3", "s3.internal", 443, True), ("hub, by proxy", "proxy.example.com", 8080, False)],
        ),
    ],
)
def test_what_the_environment_names(
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    expected: list[tuple[str, str, int, bool]],
) -> None:
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    inside = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "6443"}
    for name, value in (variables | inside).items():
        monkeypatch.setenv(name, value)
    api, pipelines, *others = endpoints()
    assert api == ("Kubernetes API", "10.0.0.1", 6443, True)
    assert pipelines == ("Kubeflow Pipelines", "ml-pipeline.kubeflow", 8887, True)
    assert others == expected
