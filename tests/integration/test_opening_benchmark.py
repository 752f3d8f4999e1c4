"""The benchmark of a report's opening, on a small one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from made_runs import make_run

from benchmarks.opening import opened
from tspin.report.page import write_report

pytestmark = [pytest.mark.integration, pytest.mark.bench]


@pytest.mark.skipif(
    os.environ.get("TSPIN_REQUIRE_BROWSER") != "1"
    and not (shutil.which("chromium") and shutil.which("chromedriver")),
    reason="no chromium and chromedriver here (Debian: chromium, chromium-driver)",
)
def test_a_report_is_timed_until_its_last_figure(tmp_path: Path) -> None:
    opening = opened(write_report(make_run(tmp_path / "tspin")))
    assert 0 < opening.load < opening.figures
    assert 0 < opening.text < opening.figures
    assert opening.cpu > 0
