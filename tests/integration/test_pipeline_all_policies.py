"""A run of tspin_all as a Kubeflow pipeline: later triplets have every policy's responses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.local_pipelines import LocalKubeflow
from tspin.records.manifest import content_hash
from tspin.selfplay import run as play
from tspin_pipelines.profiles.profile import load_profile

pytestmark = [pytest.mark.integration, pytest.mark.long]

ITERATIONS = 4


def test_the_models_are_those_of_tspin_run(tmp_path: Path) -> None:
    kubeflow = LocalKubeflow(tmp_path)
    threads = load_profile("cpu").threads(kubeflow.config())
    asked = ["train.method=tspin_all", f"iterations={ITERATIONS}", f"system.threads={threads}"]
    config = kubeflow.config(*asked, heldout=False)
    kubeflow.run("run", config)
    # Of iterations 1 and 2: the last one's responses are in no later triplet.
    assert kubeflow.tasks(0)["collect-responses"] == ITERATIONS - 2
    folder = play(config)
    joined = sorted(kubeflow.all("build-triplets", "triplets", 0), key=earlier)
    assert [earlier(path) for path in joined] == [0, 0, 1, 2]
    ours = [folder.iteration(number).triplets.read_bytes() for number in range(ITERATIONS)]
    assert [(path / "triplets.jsonl").read_bytes() for path in joined[2:]] == ours[2:]
    trained = {content_hash(path / "model") for path in kubeflow.all("train", "trained", 0)}
    assert trained == {content_hash(folder.iteration(t).model) for t in range(ITERATIONS)}


def earlier(triplets: Path) -> int:
    """Responses of a triplet between y0 and y'."""
    with (triplets / "triplets.jsonl").open("rb") as file:
        return len(json.loads(next(file)).get("earlier_synthetic") or [])
