"""What a broken network does to objects: nothing. And when it is given up."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import boto3
import pytest

from tests.s3.fault_proxy import Fault, FaultProxy
from tests.s3_server import swift
from tspin.errors import TspinError
from tspin.store import ConflictError, Store, open_store

pytestmark = pytest.mark.s3

LARGE = 20 << 20
"""Two parts."""


@pytest.fixture
def store(faulty_bucket: str) -> Store:
    return open_store(f"{faulty_bucket}/data")


def made(path: Path, size: int) -> bytes:
    content = os.urandom(size)
    path.write_bytes(content)
    return content


def versions(bucket: str) -> list[str]:
    """Names in the bucket, and uploads that were begun and not ended."""
    client = boto3.client("s3")
    name = bucket.removeprefix("s3://")
    objects = [o["Key"] for o in client.list_objects_v2(Bucket=name).get("Contents", ())]
    begun = client.list_multipart_uploads(Bucket=name).get("Uploads", ())
    return objects + [f"begun {upload['Key']}" for upload in begun]


def given_up_in_time(proxy: FaultProxy, method: str, kind: str, before: int = 0) -> None:
    """So often was asked, and so long was waited each time, as docs/guides/s3.md says."""
    asked = sum(request.startswith(f"{method} ") for request in proxy.requests[before:])
    assert 2 <= asked <= 2 * 2 * 3  # Attempts of each request, parts, tries of the whole.
    while kind == "silence" and len(proxy.silences) < asked:
        time.sleep(0.05)  # It hears a little later that the client hung up.
    assert max(proxy.silences, default=0) < 15  # Told to wait 1 s; untold it would wait 30.


@pytest.mark.parametrize("size", [1000, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("kind", ["reset", "slow down", "silence", "corrupt body"])
def test_an_upload_arrives_in_spite_of_a_fault(
    kind: str, size: int, store: Store, proxy: FaultProxy, faulty_bucket: str, tmp_path: Path
) -> None:
    content = made(tmp_path / "x", size)
    fault = Fault(kind, "PUT", times=2)
    proxy.faults.append(fault)
    store.upload(tmp_path / "x", "x")
    assert fault.times == 0
    assert versions(faulty_bucket) == ["data/x"]
    store.download("x", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == content


@pytest.mark.parametrize(
    ("size", "method"), [(1000, "PUT"), (LARGE, "PUT"), (LARGE, "POST")], ids=str
)
def test_an_upload_whose_answers_get_lost_is_one_object(
    size: int, method: str, store: Store, proxy: FaultProxy, faulty_bucket: str, tmp_path: Path
) -> None:
    content = made(tmp_path / "x", size)
    containing = "uploadId=" if method == "POST" else ""  # The last request of an upload in parts.
    lost = Fault("lost answer", method, times=2, containing=containing)
    proxy.faults.append(lost)
    store.upload(tmp_path / "x", "x")
    assert lost.times == 0
    assert versions(faulty_bucket) == ["data/x"]
    store.download("x", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == content


def test_a_creation_whose_answer_gets_lost_is_not_someone_elses(
    store: Store, proxy: FaultProxy
) -> None:
    lost = Fault("lost answer", "PUT", containing="data/x")
    proxy.faults.append(lost)
    store.create("x", b"mine")
    assert lost.times == 0
    assert sum("PUT" in request and "data/x" in request for request in proxy.requests) == 2
    assert store.read("x") == b"mine"
    with pytest.raises(ConflictError):
        store.create("x", b"another's")


@pytest.mark.parametrize("size", [1000, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("kind", ["reset", "slow down", "silence", "truncate", "corrupt answer"])
def test_a_download_is_right_in_spite_of_a_fault(
    kind: str, size: int, store: Store, proxy: FaultProxy, tmp_path: Path
) -> None:
    content = made(tmp_path / "x", size)
    store.upload(tmp_path / "x", "x")
    fault = Fault(kind, "GET", times=2)
    proxy.faults.append(fault)
    store.download("x", tmp_path / "back")
    assert fault.times == 0
    assert (tmp_path / "back").read_bytes() == content


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("reset", "data/x"),
        ("slow down", "SlowDown"),
        ("silence", "data/x"),
        ("corrupt body", "arrived damaged at the server"),
    ],
)
def test_an_upload_is_given_up_in_time_and_leaves_nothing(
    kind: str,
    expected: str,
    store: Store,
    proxy: FaultProxy,
    faulty_bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made(tmp_path / "x", LARGE)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    proxy.faults.append(Fault(kind, "PUT", times=1000))
    with pytest.raises(TspinError, match=expected) as given_up:
        open_store(store.uri).upload(tmp_path / "x", "x")
    given_up_in_time(proxy, "PUT", kind)
    assert given_up.value.exit_code == 1
    proxy.faults.clear()
    assert versions(faulty_bucket) == []
    assert list(store.list()) == []


@pytest.mark.parametrize("kind", ["reset", "slow down", "silence", "truncate", "corrupt answer"])
def test_a_download_is_given_up_in_time_and_leaves_nothing(
    kind: str, store: Store, proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(tmp_path / "x", LARGE)
    store.upload(tmp_path / "x", "x")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    proxy.faults.append(Fault(kind, "GET", times=1000))
    before = len(proxy.requests)
    with pytest.raises(TspinError, match="data/x") as given_up:
        open_store(store.uri).download("x", tmp_path / "back")
    given_up_in_time(proxy, "GET", kind, before)
    assert given_up.value.exit_code == 1
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith((".back", "b"))] == []


def test_a_server_that_dies_in_mid_upload_loses_nothing(
    store: Store, proxy: FaultProxy, faulty_bucket: str, tmp_path: Path
) -> None:
    old = made(tmp_path / "old", 1000)
    store.upload(tmp_path / "old", "x")
    content = made(tmp_path / "x", LARGE)
    held = Fault("silence", "PUT", times=1000, containing="partNumber")
    proxy.faults.append(held)
    failures: list[BaseException] = []

    def upload() -> None:
        try:
            store.upload(tmp_path / "x", "x")
        except TspinError as error:
            failures.append(error)

    thread = threading.Thread(target=upload)
    thread.start()
    while not any("partNumber" in request for request in proxy.requests):
        assert thread.is_alive(), failures
        thread.join(0.01)
    swift().kill("proxy")
    proxy.faults.clear()
    proxy.over.set()
    thread.join()
    swift().start_proxy()
    assert len(failures) <= 1
    store.download("x", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() in (old, content)
    store.upload(tmp_path / "x", "x")
    store.download("x", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == content
    assert [name for name in versions(faulty_bucket) if not name.startswith("begun")] == ["data/x"]


def test_a_wrong_secret_and_a_broken_network_are_one_message(
    faulty_bucket: str, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    command = [sys.executable, "-m", "tspin", "data", "validate", f"{faulty_bucket}/x.jsonl"]
    proxy.faults.append(Fault("reset", "GET", times=2))
    broken = subprocess.run(command, capture_output=True, text=True)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    denied = subprocess.run(command, capture_output=True, text=True)
    for ran, expected in ((broken, "Connection"), (denied, "denied (SignatureDoesNotMatch)")):
        assert ran.returncode == 1
        assert expected in ran.stderr
        assert len(ran.stderr.splitlines()) == 1
