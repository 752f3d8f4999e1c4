from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tspin.mirrors.following as following
from tests.model_registry_server import ModelRegistryServer
from tests.registry_models import promote_candidate
from tspin.mirrors.following import mirrored
from tspin.registry import Record

Promote = Callable[..., Record]


@pytest.fixture
def server() -> Iterator[ModelRegistryServer]:
    made = ModelRegistryServer()
    made.start()
    yield made
    made.stop()


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits for what is away; one that answers is waited for."""
    monkeypatch.setattr(following, "PATIENCE", 60.0)
    monkeypatch.setattr(following, "_FIRST", 0.02)


@pytest.fixture
def registry(tmp_path: Path) -> str:
    return str(tmp_path / "registry")


@pytest.fixture
def promoted(tmp_path: Path, registry: str) -> Promote:
    """Promote the n-th model, each better than the one before, with the mirrors that are named."""

    def promoted(number: int, *mirrors: str, name: str | None = None, **given: str) -> Record:
        with mirrored(registry, mirrors, name):
            return promote_candidate(tmp_path / str(number), number, registry, **given)

    return promoted
