"""What a mirror should hold, made of a registry's records."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tests.unit.mirrors.conftest import Promote
from tspin.errors import InputError
from tspin.mirrors.state import Source, State, checked_name, name_of
from tspin.records.estimate import Estimate
from tspin.registry import Record, Registry, rollback


def _record(**given: object) -> Record:
    values: dict[str, object] = {
        "number": 3,
        "kind": "promote",
        "model": "a" * 64,
        "identity": "a" * 64,
        "metrics": {},
        "evaluation": "e",
        "metric": "m",
        "direction": "max",
        "min_gain": 0.0,
        "previous": 2,
        "by": "me",
        "at": "2026-01-01T00:00:00+00:00",
    }
    return Record.model_validate(values | given)


@pytest.mark.parametrize(
    ("registry", "name"),
    [
        ("s3://bucket/team/registry", "bucket-team-registry"),
        ("gs://bucket", "bucket"),
        ("models/", "models"),
    ],
)
def test_a_model_is_called_as_its_registry(registry: str, name: str) -> None:
    assert name_of(registry) == name


@pytest.mark.parametrize("name", ["a/b", "a:b", "", "..", "a b", "-a"])
def test_a_name_is_one_that_every_mirror_takes(name: str) -> None:
    with pytest.raises(InputError, match="--mirror-name"):
        checked_name(name)


def test_a_pipeline_run_is_the_source_and_else_the_registry() -> None:
    run = Source.of(_record(run="kfp://team/1234-5/my%20run%2F1"), "s3://b/r")
    assert (run.kind, run.family, run.group, run.id) == ("kfp", "pipelinerun", "team", "1234-5")
    assert run.name == "my run/1"
    other = Source.of(_record(run="https://ci.test/7"), "s3://b/r")
    assert (other.kind, other.family, other.group) == ("tspin", "registry", "s3://b/r")
    assert (other.id, other.name) == ("a" * 64, "https://ci.test/7")


def test_metrics_have_their_intervals_where_there_are_any(
    registry: str, promoted: Promote, monkeypatch: pytest.MonkeyPatch
) -> None:
    promoted(1)
    metrics = {
        "acc,strict": Estimate(0.5, 0.4, 0.6, 10),
        "single": Estimate(2.0, None, None, 1),
        "lost": Estimate(math.nan, None, math.inf, 1),
    }
    record = _record(metrics=metrics, number=1, data={"triplets": "t"}, git_commit="c")
    monkeypatch.setattr(Registry, "records", lambda _: [record])
    state = State.of(Registry(registry), "name")
    assert state is not None
    properties = state.versions[0].properties
    assert {k: v for k, v in properties.items() if k.startswith("heldout/")} == {
        "heldout/acc_strict": 0.5,
        "heldout/acc_strict.low": 0.4,
        "heldout/acc_strict.high": 0.6,
        "heldout/single": 2.0,
    }
    assert (properties["tspin.data.triplets"], properties["tspin.git_commit"]) == ("t", "c")


def test_a_model_is_one_version_however_often_it_was_the_champion(
    registry: str, promoted: Promote, tmp_path: Path
) -> None:
    assert State.of(Registry(registry), "name") is None
    first, second = promoted(1), promoted(2)
    rollback(registry)
    state = State.of(Registry(registry), "name")
    assert state is not None
    assert [version.model for version in state.versions] == [first.model, second.model]
    assert (state.champion, state.number) == (first.model, 3)
    assert state.versions[0].properties["tspin.number"] == 3
    assert state.versions[1].uri == f"{(tmp_path / 'registry').as_uri()}/models/{second.model}"
