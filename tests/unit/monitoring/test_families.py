"""The guide has each metric with its unit and what it is."""

from __future__ import annotations

import re
from pathlib import Path

import tspin.monitoring.families as families

GUIDE = Path(__file__).parents[3] / "docs/guides/observability.md"


def test_the_guide_says_what_each_metric_is() -> None:
    named = [getattr(families, name) for name in families.__all__]
    known = [family for family in named if isinstance(family, families.Family)]
    rows = {f"| `{f.name}` | {f.unit} | {f.text} |" for f in (*known, *families.FAMILIES)}
    assert len(rows) == len(known) + len(families.FAMILIES)
    lines = GUIDE.read_text().splitlines()
    assert {line for line in lines if line.startswith("| `tspin_")} == rows


def test_names_are_those_that_prometheus_asks_for() -> None:
    for family in families.FAMILIES:
        assert re.fullmatch(r"tspin_[a-z]+(_[a-z]+)+", family.name)
        assert family.unit != "s" or "seconds" in family.name
        assert family.unit != "0 to 1" or family.name.endswith("_ratio")
