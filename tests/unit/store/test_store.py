"""Stores: whole objects, one creator of many, no way out of the folder; S3 by a local server."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.object_servers import AZURITE, az_container, gs_bucket
from tests.ports import free_port
from tests.s3.swift import SWIFT
from tests.s3_server import s3_bucket
from tspin.errors import InputError, TspinError
from tspin.files import sha256_file
from tspin.store import ConflictError, KeyMissingError, Store, open_store
from tspin.store.s3_settings import TRANSFER


@pytest.fixture(params=["folder", "s3", "gs", "az"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "folder":
        yield open_store(str(tmp_path / "store"))
        return
    if request.param == "az" and AZURITE is None:
        pytest.skip("TSPIN_AZURITE names no Azurite: make test-s3")
    (tmp_path / "azurite").mkdir()
    servers = {"s3": s3_bucket, "gs": gs_bucket, "az": lambda: az_container(tmp_path / "azurite")}
    with servers[request.param]() as uri:
        yield open_store(f"{uri}/some/prefix/")


def test_what_is_created_is_read_and_listed(store: Store) -> None:
    for key in ("b/2", "b/1", "a"):
        store.create(key, key.encode())
    assert list(store.list()) == ["a", "b/1", "b/2"]
    assert list(store.list("b/")) == ["b/1", "b/2"]
    assert store.read("b/2") == b"b/2"


def test_a_missing_object_is_named(store: Store, tmp_path: Path) -> None:
    with pytest.raises(KeyMissingError, match="nothing"):
        store.read("nothing")
    with pytest.raises(KeyMissingError, match="nothing"):
        store.download("nothing", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_of_many_creators_one_succeeds(store: Store) -> None:
    if SWIFT and store.uri.startswith("s3://"):
        pytest.skip("Swift looks at If-None-Match before it takes the body: docs/guides/s3.md")
    won: list[bytes] = []
    barrier = threading.Barrier(8)

    def create(content: bytes) -> None:
        barrier.wait()
        try:
            store.create("champion", content)
        except ConflictError:
            return
        won.append(content)

    threads = [threading.Thread(target=create, args=(str(n).encode(),)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert store.read("champion") == won[0]
    assert list(store.list()) == ["champion"]


def test_the_same_bytes_may_be_created_twice_and_others_not(store: Store) -> None:
    store.create("empty", b"", same=True)
    store.create("empty", b"", same=True)
    store.delete("empty")
    store.create("a", b"1")
    store.create("a", b"1")
    with pytest.raises(ConflictError):
        store.create("a", b"2")
    assert store.read("a") == b"1"
    store.write("a", b"2")
    assert store.read("a") == b"2"
    assert list(store.list()) == ["a"]


def test_a_server_that_ignores_conditions_creates_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    made = boto3.client

    def drop(params: dict[str, Any], **_: object) -> None:
        for name in ("If-Match", "If-None-Match"):
            params["headers"].pop(name, None)

    def deaf(*given: Any, **settings: Any) -> Any:
        client = made(*given, **settings)
        client.meta.events.register("before-call.s3.PutObject", drop)
        return client

    with s3_bucket() as uri:
        monkeypatch.setattr(boto3, "client", deaf)
        store = open_store(f"{uri}/registry")
        with pytest.raises(InputError, match="ignores conditions on writing"):
            store.create("a", b"1")
        assert list(store.list()) == []


def test_files_come_back_as_they_were_sent(store: Store, tmp_path: Path) -> None:
    sent = tmp_path / "sent"
    sent.write_bytes(os.urandom(1 << 20) * 20)  # More than one part.
    store.upload(sent, "large")
    store.upload(sent, "large")
    store.download("large", tmp_path / "back" / "file")
    assert (tmp_path / "back" / "file").read_bytes() == sent.read_bytes()


def test_a_file_is_created_once_and_nothing_is_written_over(store: Store, tmp_path: Path) -> None:
    sent, other = tmp_path / "sent", tmp_path / "other"
    sent.write_bytes(os.urandom(1 << 20) * 65)  # More than one part, or request.
    other.write_bytes(b"other")
    store.create_from(sent, "large")
    store.create_from(sent, "large")
    with pytest.raises(ConflictError, match="large: is there already"):
        store.create_from(other, "large")
    store.create("small", b"1")
    store.create_from(other, "other")
    store.create_from(other, "other")
    for content in (sent, other):
        with pytest.raises(ConflictError, match="small: is there already"):
            store.create_from(content, "small")
    assert store.sha256("large") == sha256_file(sent)
    with pytest.raises(KeyMissingError, match="nothing"):
        store.sha256("nothing")


def test_what_waits_for_a_slow_disk_is_a_part_at_most() -> None:
    assert TRANSFER.max_io_queue_size * TRANSFER.io_chunksize <= TRANSFER.multipart_chunksize


@pytest.mark.parametrize("key", ["", "/etc/passwd", "a/../../b", "a//b", "."])
def test_keys_stay_inside(store: Store, key: str) -> None:
    with pytest.raises(InputError, match="relative"):
        store.create(key, b"")


def test_bytes_that_were_changed_on_the_way_are_refused(tmp_path: Path) -> None:
    with s3_bucket() as uri:
        metadata = {"sha256": "0" * 64}
        boto3.client("s3").put_object(Bucket=uri[5:], Key="x", Body=b"other", Metadata=metadata)
        with pytest.raises(TspinError, match="sha256"):
            open_store(uri).download("x", tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_a_password_in_the_endpoint_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://me:secret@127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    with pytest.raises(TspinError, match=r"cannot reach http://\*\*\*@127") as failed:
        open_store("s3://bucket/x").read("a")
    assert "secret" not in str(failed.value)


def test_a_missing_bucket_is_named() -> None:
    with s3_bucket(), pytest.raises(TspinError, match="no bucket 'nowhere'"):
        list(open_store("s3://nowhere/x").list())
    with gs_bucket(), pytest.raises(TspinError, match="no bucket or container 'nowhere'"):
        open_store("gs://nowhere/x").create("a", b"")


def test_an_object_that_is_deleted_is_gone(store: Store) -> None:
    store.create("a", b"1")
    store.delete("a")
    store.delete("a")
    assert list(store.list()) == []


@pytest.mark.parametrize("uri", ["ftp://b/x", "s3://", "gs://", "az://"])
def test_what_is_no_store_is_refused(uri: str) -> None:
    with pytest.raises(InputError, match=f"{uri}: .*expected .*://"):
        open_store(uri)


@pytest.mark.parametrize(
    ("name", "given"),
    [("AWS_MAX_ATTEMPTS", "0"), ("TSPIN_S3_READ_SECONDS", "long"), ("AWS_MAX_ATTEMPTS", "nan")],
)
def test_a_wrong_setting_is_named(name: str, given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, given)
    with pytest.raises(InputError, match=f"{name}='{given}': expected a number, at least"):
        open_store("s3://bucket/x")
