"""What errors say: no credentials, wherever in a message they stand."""

from __future__ import annotations

import pytest

from tspin.errors import InputError, TspinError


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (
            "cannot reach https://me:pw@host:9000/x; why",
            "cannot reach https://***@host:9000/x; why",
        ),
        ("'http://me:p@w/d@host'", "'http://***@host'"),
        ("{'Authorization': 'Bearer abc', 'Host': 'h'}", "{'Authorization': '***', 'Host': 'h'}"),
        ('{"cookie": ["a=b; c=d"], "x": 1}', '{"cookie": ["***"], "x": 1}'),
        ("X-Amz-Security-Token: abc\r\nHost: h", "X-Amz-Security-Token: ***\r\nHost: h"),
        ("got Bearer abcdefghijklmnop.q-r", "got Bearer ***"),
        ("https://a.blob/x?sv=1&sig=abc%2B&se=2", "https://a.blob/x?sv=1&sig=***&se=2"),
        ("https://b/x?X-Amz-Signature=abc", "https://b/x?X-Amz-Signature=***"),
    ],
)
def test_credentials_are_not_shown(message: str, shown: str) -> None:
    assert str(TspinError(message)) == shown
    assert str(InputError(f"{TspinError(message)}")) == shown


@pytest.mark.parametrize(
    "message",
    [
        "image registry.example.com/x@sha256:abc at https://registry.example.com/x",
        "me@example.com has no rights; expected a bearer token, basic authentication or none",
        "s3://bucket/a@b: no such object, see https://example.com/a?b=c",
        "authorization failed: denied",
        "train.max_tokens=5: token: expected a number",
    ],
)
def test_what_is_no_credential_stays(message: str) -> None:
    assert str(TspinError(message)) == message
