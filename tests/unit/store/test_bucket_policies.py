"""The bucket settings of docs/guides/s3.md are taken by a server, and do what they are for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.s3.swift import SWIFT
from tests.s3_server import s3_bucket

PAGE = Path(__file__).parents[3] / "docs/guides/s3.md"
BLOCKS = [
    json.loads(block) for block in re.findall(r"```json\n(.*?)```", PAGE.read_text(), re.DOTALL)
]


@pytest.fixture
def bucket() -> Iterator[str]:
    if SWIFT:
        pytest.skip("Swift has no such settings")
    with s3_bucket() as uri:
        yield uri.removeprefix("s3://")


def test_they_are_taken(bucket: str) -> None:
    policy, trust, encryption, lifecycle = BLOCKS
    client: Any = boto3.client("s3")
    client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy).replace("BUCKET", bucket))
    client.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration=encryption)
    client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=lifecycle)
    (rule,) = client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 3}
    iam = boto3.client("iam", endpoint_url=client.meta.endpoint_url)
    iam.create_role(RoleName="retrain", AssumeRolePolicyDocument=json.dumps(trust))


def test_rights_are_to_one_bucket_and_encrypted_on_the_way() -> None:
    allowed = [s for s in BLOCKS[0]["Statement"] if s["Effect"] == "Allow"]
    resources = {statement["Resource"] for statement in allowed}
    assert resources == {"arn:aws:s3:::BUCKET", "arn:aws:s3:::BUCKET/*"}
    assert not any("*" in action for statement in allowed for action in statement["Action"])
    (denied,) = [s for s in BLOCKS[0]["Statement"] if s["Effect"] == "Deny"]
    assert denied["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
