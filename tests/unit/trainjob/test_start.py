"""How a TrainJob is begun where another of its name is in the way."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("kubernetes", reason="the Kubernetes client is not installed")

from tspin_trainjob import step


class Vanishing:
    """A cluster that refuses a name and, asked for it, does not find it: three times."""

    def __init__(self, seen: list[dict[str, Any] | None]) -> None:
        self.seen = seen
        self.asked = 0

    def create(self, document: dict[str, Any]) -> bool:
        self.asked += 1
        return self.asked > len(self.seen)

    def find(self, name: str) -> dict[str, Any] | None:
        return self.seen[self.asked - 1]


@pytest.mark.parametrize(
    "seen", [None, {"metadata": {"deletionTimestamp": "now"}}], ids=["gone", "going"]
)
def test_the_cluster_is_given_time_between_two_tries(
    monkeypatch: pytest.MonkeyPatch, seen: dict[str, Any] | None
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(step.time, "sleep", pauses.append)
    cluster: Any = Vanishing([seen] * 3)
    step._start(cluster, {"metadata": {"name": "tspin-train"}}, every=7.0)
    assert cluster.asked == 4
    assert pauses == [7.0] * 3
