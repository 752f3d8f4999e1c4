"""The bucket settings of docs/guides are taken by a server, and do what they are for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import boto3
import pytest

from tests.registry_models import METRIC, make_candidate
from tests.s3.swift import SWIFT
from tests.s3_server import s3_bucket
from tspin.registry import Registry, promote

GUIDES = Path(__file__).parents[3] / "docs/guides"


def _blocks(page: str) -> list[dict[str, Any]]:
    text = (GUIDES / page).read_text()
    return [json.loads(block) for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL)]


BLOCKS = _blocks("s3.md")


@pytest.fixture
def bucket() -> Iterator[str]:
    if SWIFT:
        pytest.skip("Swift has no such settings")
    with s3_bucket() as uri:
        yield uri.removeprefix("s3://")


def test_they_are_taken(bucket: str) -> None:
    tasks, promoter, own, trust, encryption, lifecycle = BLOCKS
    client: Any = boto3.client("s3")
    client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(own).replace("BUCKET", bucket))
    client.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration=encryption)
    client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=lifecycle)
    (rule,) = client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 3}
    iam = boto3.client("iam", endpoint_url=client.meta.endpoint_url)
    iam.create_role(RoleName="retrain", AssumeRolePolicyDocument=json.dumps(trust))
    for name, policy in (("tasks", tasks), ("promoter", promoter)):
        iam.create_policy(PolicyName=name, PolicyDocument=json.dumps(policy))


def test_a_promotion_works_where_every_object_is_locked(tmp_path: Path, bucket: str) -> None:
    client: Any = boto3.client("s3")
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    (lock,) = _blocks("registry.md")
    client.put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration=lock)
    model, metrics = make_candidate(tmp_path, 1, 0.5)
    registry = f"s3://{bucket}/registry"
    promote(model, metrics=metrics, registry=registry, metric=METRIC, direction="max")
    versions = client.list_object_versions(Bucket=bucket)
    assert all(version["IsLatest"] for version in versions["Versions"])
    assert "DeleteMarkers" not in versions
    assert len(Registry(registry).verify()) == 1


def _allows(policy: dict[str, Any], action: str, key: str) -> bool:
    """Whether a statement without a condition allows an action on an object."""
    return any(
        action in _listed(statement["Action"])
        and any(fnmatch(f"arn:aws:s3:::BUCKET/{key}", r) for r in _listed(statement["Resource"]))
        for statement in policy["Statement"]
        if statement["Effect"] == "Allow"
    )


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def test_only_the_promoter_writes_to_the_registry_and_nobody_deletes_there() -> None:
    tasks, promoter = BLOCKS[:2]
    records = "registry/champion/00000001.json"
    for key in (records, "registry/models/a/files.json", "registry/.condition"):
        assert _allows(promoter, "s3:PutObject", key)
        assert not _allows(tasks, "s3:PutObject", key)
        for policy in (tasks, promoter):
            assert _allows(policy, "s3:GetObject", key)
            assert not _allows(policy, "s3:DeleteObject", key)
    assert _allows(tasks, "s3:PutObject", "runs/a/config.json")
    assert not _allows(promoter, "s3:PutObject", "runs/a/config.json")
    for policy in (tasks, promoter):
        assert not any("*" in a for s in policy["Statement"] for a in _listed(s["Action"]))


def test_a_promotion_needs_no_more_than_the_promoters_policy(
    tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every object that is put is put on the condition that the bucket's policy asks for."""
    made, sent = boto3.client, []

    def watched(*given: Any, **settings: Any) -> Any:
        client = made(*given, **settings)
        client.meta.events.register(
            "before-call.s3",
            lambda model, params, **_: sent.append(
                (
                    model.name,
                    unquote(params["url_path"]).partition("/registry/")[2],
                    params["headers"],
                )
            ),
        )
        return client

    monkeypatch.setattr(boto3, "client", watched)
    model, metrics = make_candidate(tmp_path, 1, 0.5)
    (model / "large.bin").write_bytes(bytes(17 << 20))
    registry = f"s3://{bucket}/registry"
    promote(model, metrics=metrics, registry=registry, metric=METRIC, direction="max")
    promoter, writes = BLOCKS[1], {"PutObject", "CompleteMultipartUpload"}
    written = {key: headers for name, key, headers in sent if name in writes}
    assert {key.partition("/")[0] for key in written} == {".condition", "models", "champion"}
    for key, headers in written.items():
        assert _allows(promoter, "s3:PutObject", f"registry/{key}")
        assert headers.get("If-None-Match") == "*" or key == ".condition"
    assert not any(name.startswith("Delete") for name, _, _ in sent)


def test_what_is_there_is_neither_replaced_nor_deleted() -> None:
    statements = {s["Sid"]: s for s in BLOCKS[2]["Statement"]}
    assert all(s["Effect"] == "Deny" and s["Principal"] == "*" for s in statements.values())
    assert statements["Encrypted"]["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    condition = statements["OnlyNew"]["Condition"]
    assert condition["Null"] == {"s3:if-none-match": "true"}
    assert condition["Bool"] == {"s3:ObjectCreationOperation": "true"}
    assert statements["OnlyNew"]["Resource"] == statements["Kept"]["Resource"]
