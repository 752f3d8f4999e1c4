"""Data of tasks are fetched by a light task, which evaluations wait for and nothing else does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tspin.config import RunConfig
from tspin.harness.loading import FETCHED
from tspin_pipelines.compile import compile_pipeline
from tspin_pipelines.plan import Plan
from tspin_pipelines.profiles.profile import Profile, load_profile


def configuration(*tasks: str, margin: float | None = None) -> RunConfig:
    return RunConfig.model_validate(
        {
            "run_dir": "runs/x",
            "iterations": 3,
            "model": {"path": "m"},
            "data": {"annotated": "a.jsonl", "heldout": "h.jsonl"},
            "evaluate": {"tasks": tasks},
            "gate": {"margin": margin},
        }
    )


def changed(name: str, **evaluate: Any) -> Profile:
    """A shipped profile with settings of its own for the stage that evaluates."""
    values = load_profile(name).model_dump()
    values["stages"]["evaluate"] |= evaluate
    return Profile.model_validate(values)


def compiled(pipeline: str, plan: Plan, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The pipeline spec, and what Kubernetes is told of each executor."""
    compile_pipeline(pipeline, plan, folder / "pipeline.yaml")
    text = (folder / "pipeline.yaml").read_text()
    spec, platform = yaml.load_all(text, Loader=yaml.CSafeLoader)
    executors: dict[str, Any] = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return spec, executors


def waits(
    spec: dict[str, Any], dag: dict[str, Any], before: frozenset[str] = frozenset()
) -> Iterator[tuple[str, frozenset[str]]]:
    """Titles of all tasks that containers run, each with the names of the tasks it waits for."""
    tasks = dag["tasks"]

    def earlier(name: str) -> frozenset[str]:
        direct = tasks[name].get("dependentTasks", [])
        return frozenset(direct).union(*map(earlier, direct))

    for name, task in tasks.items():
        component = spec["components"][task["componentRef"]["name"]]
        if "dag" in component:
            yield from waits(spec, component["dag"], before | earlier(name))
        else:
            yield component["executorLabel"].rstrip("-0123456789"), before | earlier(name)


def told(spec: dict[str, Any]) -> set[str]:
    """The executors that look into the cache first."""
    executors = spec["deploymentSpec"]["executors"]
    return {
        name.removeprefix("exec-").rstrip("-0123456789")
        for name, executor in executors.items()
        for variable in executor.get("container", {}).get("env", [])
        if variable["name"] == FETCHED
    }


@pytest.mark.parametrize("margin", [None, 0.1])
@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("pipeline", ["run", "iteration", "evaluate"])
def test_evaluations_wait_for_it_and_what_they_need_does_not(
    pipeline: str, shards: int, margin: float | None, tmp_path: Path
) -> None:
    plan = Plan(configuration("gsm8k", margin=margin), changed("gke-h100", shards=shards))
    spec, _ = compiled(pipeline, plan, tmp_path)
    waiting = list(waits(spec, spec["root"]["dag"]))
    by_executor = {name: [w for n, w in waiting if n == name] for name, _ in waiting}
    assert len(by_executor["exec-fetch-tasks"]) == 1
    assert by_executor["exec-fetch-tasks"] == [{"preflight", "check-inputs"}]
    asking = by_executor["exec-evaluate"] + by_executor.get("exec-merge-evaluations", [])
    assert len(asking) >= shards
    assert all("fetch-tasks" in names for names in asking)
    for name in ("exec-import-model", "exec-import-data"):
        assert not [names for names in by_executor[name] if "fetch-tasks" in names]
    if pipeline != "evaluate":  # Responses of the initial policy, and the first training.
        for name in ("exec-generate", "exec-train"):
            assert [names for names in by_executor[name] if "fetch-tasks" not in names]
    assert told(spec) == ({"evaluate"} if shards == 1 else {"evaluate", "merge-evaluations"})


@pytest.mark.parametrize("name", ["gke-h100", "onprem", "cpu"])
def test_it_runs_where_light_tasks_do_on_the_image_that_evaluates(
    name: str, tmp_path: Path
) -> None:
    profile = load_profile(name)
    plan = Plan(configuration("paper"), profile, cache=True)
    spec, placed = compiled("run", plan, tmp_path)
    container = spec["deploymentSpec"]["executors"]["exec-fetch-tasks"]["container"]
    assert container["image"] == profile.image(profile.stages.evaluate)
    assert "accelerator" not in container["resources"]
    light, fetching = placed["exec-import-model"], placed["exec-fetch-tasks"]
    assert fetching == light
    assert {claim["mountPath"] for claim in fetching["pvcMount"]} == {"/cache"}
    task = spec["root"]["dag"]["tasks"]["fetch-tasks"]
    # Kubeflow would take it for done where the claim was emptied since.
    assert not task["cachingOptions"].get("enableCache")
    tries = profile.stages.light.retry.limit
    assert task["retryPolicy"]["maxRetryCount"] == tries > 0


@pytest.mark.parametrize(
    ("config", "profile"),
    [
        (configuration(), load_profile("cpu")),
        (configuration("gsm8k"), changed("cpu", volumes=[])),
        (configuration("gsm8k"), changed("cpu", volumes=[{"claim": "other", "path": "/cache"}])),
        (configuration("gsm8k"), changed("cpu", volumes=[{"claim": "tspin-cache", "path": "/c"}])),
    ],
    ids=["no tasks", "no claim", "another claim", "at another path"],
)
def test_without_tasks_or_a_cache_in_common_all_is_as_before(
    config: RunConfig, profile: Profile, tmp_path: Path
) -> None:
    spec, _ = compiled("run", Plan(config, profile), tmp_path)
    assert "exec-fetch-tasks" not in spec["deploymentSpec"]["executors"]
    assert told(spec) == set()
