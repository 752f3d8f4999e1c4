"""Which tokens are sent to a Kubeflow server, where, and for how long."""

from __future__ import annotations

import base64
import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.kubeflow_server import kubeflow_server
from tspin.errors import InputError, TspinError
from tspin_pipelines.kubeflow.server import Access, Server
from tspin_pipelines.kubeflow.token import Token, find_token

SECRET = "a-token-that-nobody-prints"


def _jwt(end: float) -> str:
    """A token as Kubernetes makes them, which says when it ends."""
    parts = ({"alg": "RS256"}, {"exp": end, "aud": ["pipelines.kubeflow.org"]})
    encoded = [base64.urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in parts]
    return ".".join([*encoded, "signature"])


def _sent(token: Token, count: int) -> list[str]:
    """What goes with so many requests."""
    config: Any = SimpleNamespace(api_key={})
    sent = []
    for _ in range(count):
        token.refresh_api_key_hook(config)
        sent.append(config.api_key["authorization"])
    return sent


def test_a_token_is_asked_for_again_when_it_ends() -> None:
    now = time.time()
    tokens = [_jwt(now - 1), _jwt(now + 5), _jwt(now + 3600), "never"]
    token = Token(iter(tokens).__next__)
    assert _sent(token, 3) == [tokens[1], tokens[2], tokens[2]]
    assert token.hidden(f"{tokens[0]} {tokens[2]} {tokens[3]}") == "*** *** never"


def test_a_token_that_was_refused_is_asked_for_again() -> None:
    token = Token(iter(["first", "second"]).__next__)
    assert _sent(token, 2) == ["first", "first"]
    token.forget()
    assert _sent(token, 2) == ["second", "second"]


def test_a_file_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{_jwt(time.time() - 1)}\n")
    token = find_token(file, None)
    assert token is not None
    file.write_text("renewed\n")
    assert _sent(token, 1) == ["renewed"]
    assert "renewed" not in repr(token)


def test_a_command_prints_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KFP_TOKEN", "other")
    token = find_token(None, f"{sys.executable} -c 'print(\"printed\")'")
    assert token is not None
    assert _sent(token, 1) == ["printed"]
    with pytest.raises(InputError, match="expected one of them"):
        find_token(Path("x"), "y")


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("no-such-command --x", 2, "'no-such-command --x' cannot be run"),
        ("", 2, "cannot be run"),
        ("echo 'open", 2, "cannot be run"),
        (f"{sys.executable} -c ''", 1, "printed nothing"),
        (f"{sys.executable} -c 'import sys; sys.exit(\"no cluster\")'", 1, r"\(1\): no cluster"),
    ],
)
def test_a_command_without_a_token_is_said(command: str, code: int, message: str) -> None:
    with pytest.raises(TspinError, match=message) as refused:
        find_token(None, command)
    assert refused.value.exit_code == code


@pytest.mark.parametrize(
    ("host", "options", "sent"),
    [
        ("http://kubeflow.example.com", {}, False),
        ("http://kubeflow.example.com", {"insecure_token": True}, True),
        ("https://kubeflow.example.com", {}, True),
        ("http://kubeflow.example.com", {"in_cluster": True}, False),
        ("http://ml-pipeline.kubeflow.svc:8888", {"in_cluster": True}, True),
        ("http://ml-pipeline.kubeflow.svc:8888", {}, False),
        (None, {"in_cluster": True}, True),
        ("http://localhost:8888", {}, True),
        ("http://127.1.2.3:8888", {}, True),
        ("http://[::1]:8888", {}, True),
        ("http://localhost.example.com", {}, False),
        ("http://10.0.0.1", {}, False),
    ],
)
def test_a_token_is_not_sent_in_the_clear(
    host: str | None, options: dict[str, bool], sent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KFP_TOKEN", SECRET)
    monkeypatch.delenv("KFP_HOST", raising=False)
    if sent:
        assert SECRET not in repr(Server.of(host, "tspin", Access(**options)))
        return
    with pytest.raises(InputError, match=r"in the clear; expected https://.*--insecure-token"):
        Server.of(host, "tspin", Access(**options))


def test_without_a_token_plain_http_is_nobodys_business(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KFP_TOKEN", raising=False)
    assert Server.of("http://kubeflow.example.com", "tspin").token is None


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        (f"https://me:{SECRET}@k.example.com", r"https://\*\*\*@k.example.com"),
        (f"https://me:p/{SECRET}@k.example.com", r"https://\*\*\*@k.example.com"),
        ("https://[k", r"https://\[k"),
        ("k.example.com", "k.example.com"),
    ],
)
def test_a_host_that_is_no_address_is_refused_without_its_password(host: str, shown: str) -> None:
    with pytest.raises(InputError, match=f"host is '{shown}'; expected a URL") as refused:
        Server.of(host, "tspin")
    assert SECRET not in str(refused.value)


def test_a_server_that_echoes_the_token_is_quoted_without_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KFP_TOKEN", SECRET)
    with kubeflow_server(echo=True) as running:
        server = Server.of(running.url, "tspin")
        with pytest.raises(TspinError, match="answered 500: token was") as failed, server.told():
            server.connect().get_run("r-1")
    assert "***" in str(failed.value)
    assert SECRET not in str(failed.value)
