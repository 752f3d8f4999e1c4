"""Racing promotions on a server that looks at conditions before it takes a body."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.registry_race import RACERS, race

pytestmark = pytest.mark.s3


def test_sixteen_race_and_one_wins(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TSPIN_S3_SETTLE_SECONDS", "3")
    refused = [3] * (RACERS - 1)
    assert race(f"{bucket}/registry", tmp_path) == [0, *refused]
