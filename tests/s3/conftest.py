"""Buckets of a real S3 server, with and without faults on the way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.s3.fault_proxy import FaultProxy, fault_proxy
from tests.s3.swift import need_swift
from tests.s3_server import s3_bucket, swift


@pytest.fixture(autouse=True)
def real_server() -> None:
    need_swift()


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("TSPIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with s3_bucket() as uri:
        yield uri


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    monkeypatch.setenv("TSPIN_S3_READ_SECONDS", "1")
    with fault_proxy(swift().url) as made:
        yield made


@pytest.fixture
def faulty_bucket(proxy: FaultProxy) -> Iterator[str]:
    with s3_bucket(proxy.url) as uri:
        proxy.requests.clear()
        yield uri
