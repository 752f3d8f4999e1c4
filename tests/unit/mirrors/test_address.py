"""What `--mirror` takes."""

from __future__ import annotations

import pytest

from tspin.errors import InputError
from tspin.mirrors.address import Address


@pytest.mark.parametrize(
    ("text", "url"),
    [
        (
            "model-registry=http://mr.kubeflow.svc.cluster.local",
            "http://mr.kubeflow.svc.cluster.local:8080",
        ),
        ("model-registry=https://mr.test/prefix/", "https://mr.test:443/prefix"),
        ("mlflow=http://mlflow.test:5000", "http://mlflow.test:5000"),
        ("mlflow=http://mlflow.test", "http://mlflow.test:80"),
        ("mlflow=http://[::1]:5000", "http://[::1]:5000"),
    ],
)
def test_an_address_names_its_port(text: str, url: str) -> None:
    address = Address.of(text)
    assert address.url == url
    assert Address.of(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "https://mr.test",
        "wandb=https://mr.test",
        "model-registry",
        "model-registry=mr.test:8080",
        "mlflow=databricks",
        "mlflow=http://",
        "mlflow=http://mlflow.test:many",
        "mlflow=http://mlflow.test:99999",
        "mlflow=http://mlflow.test?token=secret",
        "mlflow=http://mlflow.test/a b",
    ],
)
def test_what_is_no_address_is_refused_with_one_that_is(text: str) -> None:
    with pytest.raises(InputError, match=r"--mirror .*; expected model-registry=https://HOST"):
        Address.of(text)


@pytest.mark.parametrize("kind", ["mlflow", "model-registry", "other"])
def test_a_password_is_refused_and_never_shown(kind: str) -> None:
    with pytest.raises(InputError, match="has a user or password") as refused:
        Address.of(f"{kind}=https://me:hunter2@host.test")
    assert "hunter2" not in str(refused.value)


def test_a_client_that_is_not_installed_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tspin.mirrors.address.find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"pip install 'tspin\[registry\]'"):
        Address.of("model-registry=http://mr.test").check_installed()
