"""Racing promotions on a server that looks at conditions before it takes a body."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.registry_race import RACERS, race

pytestmark = pytest.mark.s3


def test_sixteen_race_and_one_wins(bucket: str, tmp_path: Path) -> None:
    refused = [3] * (RACERS - 1)
    # Longer than a busy server needs for sixteen requests at once.
    settled = {"TSPIN_S3_SETTLE_SECONDS": "30"}
    assert race(f"{bucket}/registry", tmp_path, **settled) == [0, *refused]
