"""Pipelines compile for every profile, to the YAML that was recorded, and refuse what they cannot.

TSPIN_RECORD=1 .venv/bin/pytest tests/unit/pipelines/test_compile_pipeline.py    # record anew
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import components

from tspin.config import RunConfig, TrainConfig, load_config
from tspin.errors import InputError
from tspin_pipelines.compile import compile_pipeline
from tspin_pipelines.plan import Plan
from tspin_pipelines.profiles.profile import Profile, load_profile, profile_names
from tspin_pipelines.publishing.components import publish_components, shipped_components
from tspin_trainjob.nodes import Nodes

ROOT = Path(__file__).parents[3]
GOLDEN = Path(__file__).parent / "golden"
RECORDED = {
    "run-cpu": ("run", "cpu", {"shards": 2, "registry": "/cache/registry"}),
    "run-gke-h100": ("run", "gke-h100", {}),
    "iteration-eks-l4-spot": ("iteration", "eks-l4-spot", {"model": "org/model", "iteration": 2}),
    "evaluate-aks-a100": ("evaluate", "aks-a100", {"model": "s3://bucket/model"}),
}


def _config(**data: str) -> RunConfig:
    return RunConfig.model_validate(
        {
            "run_dir": "runs/x",
            "iterations": 2,
            "model": {"path": "m"},
            "data": {"annotated": "a.jsonl", **data},
        }
    )


def _compiled(name: str, tmp_path: Path, pipeline: str = "evaluate") -> list[dict[str, Any]]:
    out = tmp_path / "pipeline.yaml"
    compile_pipeline(pipeline, Plan(_config(heldout="h.jsonl"), load_profile(name)), out)
    return _documents(out)


def _documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.load_all(path.read_text(), Loader=yaml.CSafeLoader))


@pytest.mark.parametrize("name", RECORDED)
def test_the_yaml_is_what_was_recorded(name: str, tmp_path: Path) -> None:
    pipeline, profile, options = RECORDED[name]
    config = load_config(ROOT / "configs/demo.yaml")
    out = tmp_path / f"{name}.yaml"
    compile_pipeline(pipeline, Plan(config, load_profile(profile), **options), out)
    golden = GOLDEN / out.name
    if os.environ.get("TSPIN_RECORD"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_bytes(out.read_bytes())
    assert out.read_text() == golden.read_text()
    assert out.read_text().count("\n---\n") == 1  # The pipeline spec and the platform spec.


def test_the_mirrors_of_a_profile_reach_the_tasks_at_the_registry(tmp_path: Path) -> None:
    values = load_profile("cpu").model_dump()
    address = "model-registry=http://mr.kubeflow.svc.cluster.local:8080"
    values["mirrors"] = {"addresses": [address], "name": "answers"}
    plan = Plan(_config(heldout="h"), Profile.model_validate(values), registry="s3://b/r")
    compile_pipeline("run", plan, tmp_path / "pipeline.yaml")
    dags = [
        c["dag"]
        for c in _documents(tmp_path / "pipeline.yaml")[0]["components"].values()
        if "dag" in c
    ]
    dags.append(_documents(tmp_path / "pipeline.yaml")[0]["root"]["dag"])
    tasks = [task for dag in dags for task in dag["tasks"].values()]
    names = ("check registry", "promote")
    told = [task["inputs"]["parameters"] for task in tasks if task["taskInfo"]["name"] in names]
    assert len(told) >= 2
    for inputs in told:
        assert inputs["mirrors"]["runtimeValue"]["constant"] == [address]
        assert inputs["mirror_name"]["runtimeValue"]["constant"] == "answers"


@pytest.mark.parametrize("tasks", ["[]", "[paper]"])
def test_shards_of_an_evaluation_are_merged_without_a_gpu(tasks: str, tmp_path: Path) -> None:
    """By what scores tasks, if there are any; the pods of the shards are those of the stage."""
    values = load_profile("gke-h100").model_dump()
    values["stages"]["evaluate"]["shards"] = 4
    profile = Profile.model_validate(values)
    config = load_config(ROOT / "configs/demo.yaml", [f"evaluate.tasks={tasks}"])
    out = tmp_path / "pipeline.yaml"
    compile_pipeline("evaluate", Plan(config, profile), out)
    spec = _documents(out)[0]
    executors = spec["deploymentSpec"]["executors"]
    merge, shard = (
        executors[f"exec-{name}"]["container"] for name in ("merge-evaluations", "evaluate")
    )
    assert "accelerator" not in merge["resources"]
    assert shard["resources"]["accelerator"]["resourceCount"] == "1"
    stages = profile.stages
    assert merge["image"] == profile.image(stages.light if tasks == "[]" else stages.evaluate)
    [loop] = [c for name, c in spec["components"].items() if name.startswith("comp-for-loop")]
    tasks_of_loop = loop["dag"]["tasks"]
    assert [*tasks_of_loop] == ["evaluate"]
    assert "0/4" in out.read_text()


@pytest.mark.parametrize("name", ["generate", "train", "light"])
def test_only_evaluations_have_shards(name: str) -> None:
    values = load_profile("gke-h100").model_dump()
    values["stages"][name]["shards"] = 2
    with pytest.raises(ValueError, match=rf"stages\.{name}\.shards is 2; only evaluations"):
        Profile.model_validate(values)


@pytest.mark.parametrize("name", profile_names())
def test_the_stage_of_the_profile_reaches_the_task(name: str, tmp_path: Path) -> None:
    spec, platform = _compiled(name, tmp_path)
    profile = load_profile(name)
    stage = profile.stages.evaluate
    container = spec["deploymentSpec"]["executors"]["exec-evaluate"]["container"]
    assert container["image"] == profile.image(stage)
    assert ("accelerator" in container["resources"]) == (stage.accelerator is not None)
    if stage.accelerator is not None:
        accelerator = container["resources"]["accelerator"]
        assert accelerator["resourceType"] == stage.accelerator.resource
        assert accelerator["resourceCount"] == str(stage.accelerator.count)
    placed = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-evaluate"]
    assert placed.get("nodeSelector", {}).get("labels", {}) == stage.node_selector
    assert [t["key"] for t in placed.get("tolerations", [])] == [t.key for t in stage.tolerations]
    assert placed.get("podMetadata", {}).get("labels", {}) == profile.labels(stage)
    assert placed["activeDeadlineSeconds"] == str(stage.timeout_seconds)
    assert placed["securityContext"] == {
        "runAsUser": str(profile.user),
        "runAsGroup": str(profile.user),
        "runAsNonRoot": True,
    }
    policy = spec["root"]["dag"]["tasks"]["evaluate"]["retryPolicy"]
    tries = stage.retry.limit + 1
    assert policy["maxRetryCount"] == stage.retry.limit
    # Argo reads the factor as a whole number, and ends the running try when the duration is over.
    assert policy["backoffFactor"] == int(policy["backoffFactor"]) == stage.retry.factor
    duration = int(policy["backoffMaxDuration"].removesuffix("s"))
    assert duration > tries * stage.timeout_seconds + stage.retry.waits


@pytest.mark.parametrize("name", profile_names())
def test_every_task_of_a_run_is_placed(name: str, tmp_path: Path) -> None:
    spec, platform = _compiled(name, tmp_path, "run")
    executors = spec["deploymentSpec"]["executors"]
    placed = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    containers = {key for key, executor in executors.items() if "container" in executor}
    assert containers == set(placed)
    assert {executors[key]["container"]["image"] for key in containers} <= {
        load_profile(name).image(stage) for _, stage in load_profile(name).stages
    }


def test_the_first_task_waits_for_nothing_that_it_looks_for(tmp_path: Path) -> None:
    _, platform = _compiled("eks-l4-spot", tmp_path, "run")
    placed = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    waiting, bare = placed["exec-check-inputs"], placed["exec-preflight"]
    assert "kueue.x-k8s.io/queue-name" in waiting["podMetadata"]["labels"]
    assert {"pvcMount", "secretAsEnv"} <= set(waiting)
    assert not {"pvcMount", "secretAsEnv"} & set(bare)
    assert not bare["podMetadata"].get("labels")
    assert [source["optional"] for source in bare["configMapAsEnv"]] == [True]
    assert bare["nodeAffinity"] == waiting["nodeAffinity"]


def test_every_task_trusts_and_goes_out_as_the_profile_says(tmp_path: Path) -> None:
    changed = {"ca_bundle": "tspin-ca", "proxy": "tspin-proxy"}
    profile = Profile.model_validate(load_profile("onprem").model_dump() | changed)
    out = tmp_path / "run.yaml"
    compile_pipeline("run", Plan(_config(), profile), out)
    spec, platform = _documents(out)
    placed = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert len(placed) >= 4
    for name, task in placed.items():
        (volume,) = task["configMapAsVolume"]
        assert (volume["configMapName"], volume["mountPath"]) == ("tspin-ca", "/etc/tspin/ca")
        assert "tspin-proxy" in {source["configMapName"] for source in task["configMapAsEnv"]}
        container = spec["deploymentSpec"]["executors"][name]["container"]
        values = {v["name"]: v["value"] for v in container["env"]}
        assert values["AWS_CA_BUNDLE"] == values["SSL_CERT_FILE"] == "/etc/tspin/ca/ca.crt"


def test_prometheus_may_ask_the_tasks_that_compute(tmp_path: Path) -> None:
    """By the profile's port, or by that of the configuration, which goes before it."""
    profile = load_profile("eks-l4-spot").model_copy(update={"metrics_port": 9464})
    config = load_config(ROOT / "configs/demo.yaml")
    plan = Plan(config, profile)
    out = tmp_path / "pipeline.yaml"
    compile_pipeline("run", plan, out)
    _, platform = _documents(out)
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    asked = {
        name.removeprefix("exec-").rstrip("-0123456789")
        for name, task in executors.items()
        if task.get("podMetadata", {}).get("labels", {}).get("tspin.io/metrics") == "true"
    }
    assert asked == {"generate", "train", "evaluate"}
    named = [task for task in executors.values() if "fieldPathAsEnv" in task]
    assert len(named) == sum("tspin.io/metrics" in str(task) for task in executors.values())
    for task in named:
        (variable,) = task["fieldPathAsEnv"]
        assert variable == {
            "name": "TSPIN_RUN_ID",
            "fieldPath": "metadata.labels['pipeline/runid']",
        }
    assert RunConfig.model_validate_json(plan.config_json()).system.metrics_port == 9464
    own = Plan(load_config(ROOT / "configs/demo.yaml", ["system.metrics_port=9000"]), profile)
    assert RunConfig.model_validate_json(own.config_json()).system.metrics_port == 9000
    assert Plan(config, load_profile("eks-l4-spot")).metrics_port is None


def test_several_nodes_are_a_launcher_that_waits_as_long_as_training(tmp_path: Path) -> None:
    profile = load_profile("gke-h100")
    values = profile.model_dump()
    values["stages"]["train"]["nodes"] = 4
    out = tmp_path / "run.yaml"
    compile_pipeline("run", Plan(_config(), Profile.model_validate(values)), out)
    spec, platform = _documents(out)
    executors = spec["deploymentSpec"]["executors"]
    assert "exec-train" not in executors
    launcher = executors["exec-train-multinode"]["container"]
    assert launcher["image"] == profile.image(profile.stages.transfer)
    assert "accelerator" not in launcher["resources"]
    placed = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    waits = placed["exec-train-multinode"]["activeDeadlineSeconds"]
    assert waits == str(profile.stages.train.timeout_seconds)
    (text,) = {
        task["inputs"]["parameters"]["nodes"]["runtimeValue"]["constant"]
        for component in spec["components"].values()
        for name, task in component.get("dag", {}).get("tasks", {}).items()
        if name == "train-multinode"
    }
    nodes = Nodes.model_validate_json(text)
    assert (nodes.count, nodes.processes) == (4, 8)
    assert nodes.labels["kueue.x-k8s.io/queue-name"] == "tspin"
    assert nodes.labels["kueue.x-k8s.io/priority-class"] == "tspin-train"
    assert nodes.image == profile.image(profile.stages.train)
    assert nodes.resources["limits"]["nvidia.com/gpu"] == "8"


def test_checkpoints_are_kept_on_the_volume(tmp_path: Path) -> None:
    spec, _ = _compiled("gke-h100", tmp_path, "run")
    config = spec["root"]["inputDefinitions"]["parameters"]["config"]["defaultValue"]
    volume = load_profile("gke-h100").stages.train.volumes[0].path
    kept = RunConfig.model_validate_json(config).system.checkpoints
    assert kept == f"{volume}/checkpoints"


def test_one_node_an_iteration_and_an_end_for_each_branch(tmp_path: Path) -> None:
    config = load_config(ROOT / "configs/demo.yaml")
    compile_pipeline("run", Plan(config, load_profile("cpu")), tmp_path / "run.yaml")
    spec = _documents(tmp_path / "run.yaml")[0]
    dags = [spec["root"]["dag"], *(c["dag"] for c in spec["components"].values() if "dag" in c)]
    titles = [task["taskInfo"]["name"] for dag in dags for task in dag["tasks"].values()]
    assert sorted(t for t in titles if t.startswith("iteration")) == [
        f"iteration {number}" for number in range(3)
    ]
    assert sum(title.startswith("finish") for title in titles) == 3


def _run_spec(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    values = _config(heldout="h.jsonl").model_dump() | {"iterations": 3} | changes
    plan = Plan(RunConfig.model_validate(values), load_profile("cpu"))
    compile_pipeline("run", plan, tmp_path / "run.yaml")
    return _documents(tmp_path / "run.yaml")[0]


def _needed(spec: dict[str, Any], dag: dict[str, Any], title: str) -> set[str]:
    """Titles of all tasks in a DAG that a task waits for, and those in them."""
    tasks = dag["tasks"]
    names = {task["taskInfo"]["name"]: name for name, task in tasks.items()}
    waiting, found = [names[title]], set()
    while waiting:
        for name in tasks[waiting.pop()].get("dependentTasks", []):
            if name not in found:
                found.add(name)
                waiting.append(name)
    return {title for name in found for title in _titles(spec, tasks[name])}


def _titles(spec: dict[str, Any], task: dict[str, Any]) -> Iterator[str]:
    yield task["taskInfo"]["name"]
    inner = spec["components"].get(task["componentRef"]["name"], {}).get("dag", {})
    for further in inner.get("tasks", {}).values():
        yield from _titles(spec, further)


def _branch(spec: dict[str, Any], dag: dict[str, Any], title: str) -> dict[str, Any]:
    """The DAG of what is done after an iteration that the gate lets pass."""
    inner = [
        spec["components"][task["componentRef"]["name"]]["dag"]
        for task in dag["tasks"].values()
        if task["taskInfo"]["name"].startswith("condition-branches")
    ]
    branches = [task for one in inner for task in one["tasks"].values()]
    (chosen,) = [task for task in branches if title in {*_titles(spec, task)}]
    return spec["components"][chosen["componentRef"]["name"]]["dag"]  # type: ignore[no-any-return]


def test_no_iteration_waits_for_an_evaluation_that_cannot_stop_it(tmp_path: Path) -> None:
    spec = _run_spec(tmp_path)
    dag = spec["root"]["dag"]
    for number in range(3):
        needed = _needed(spec, dag, f"iteration {number}")
        assert not {"gate", "evaluate", "evaluate the start", "begin the history"} & needed
        assert f"iteration {number - 1}" in needed or number == 0
        assert (
            f"evaluation {number - 1}" in _needed(spec, dag, f"evaluation {number}") or not number
        )
    assert {"evaluation 2", "iteration 2"} <= _needed(spec, dag, "finish")


@pytest.mark.parametrize("shards", [1, 2])
def test_before_the_gate_comes_the_generation_of_the_next_iteration_alone(
    shards: int, tmp_path: Path
) -> None:
    values = _config(heldout="h.jsonl").model_dump() | {"gate": {"margin": 0.1}}
    plan = Plan(RunConfig.model_validate(values), load_profile("cpu"), shards=shards)
    compile_pipeline("run", plan, tmp_path / "run.yaml")
    spec = _documents(tmp_path / "run.yaml")[0]
    dag = spec["root"]["dag"]
    needed = _needed(spec, dag, "generation 1")
    assert "iteration 0" in needed
    assert not {"gate", "evaluate", "evaluate the start"} & needed
    within = _branch(spec, dag, "iteration 1")["tasks"].values()
    later = {title for task in within for title in _titles(spec, task)}
    assert {"iteration 1", "evaluation 1", "train", "build triplets"} <= later
    assert "generate" not in later


def test_a_generation_that_waits_for_the_gate_stands_in_its_branch(tmp_path: Path) -> None:
    spec = _run_spec(tmp_path, gate={"margin": 0.1}, system={"speculate": False})
    dag = spec["root"]["dag"]
    outside = {task["taskInfo"]["name"] for task in dag["tasks"].values()}
    assert not [title for title in outside if title.startswith("generation")]
    within = _branch(spec, dag, "iteration 1")["tasks"].values()
    assert "generate" in {title for task in within for title in _titles(spec, task)}


@pytest.mark.parametrize("gate", [{}, {"margin": 0.1}], ids=["free", "gated"])
def test_all_policies_responses_reach_the_triplets_of_later_iterations(
    gate: dict[str, float], tmp_path: Path
) -> None:
    spec = _run_spec(tmp_path, gate=gate, train={"method": "tspin_all"}, iterations=4)
    dags = [spec["root"]["dag"], *(c["dag"] for c in spec["components"].values() if "dag" in c)]
    tasks = [task for dag in dags for task in dag["tasks"].values()]
    titles = [task["taskInfo"]["name"] for task in tasks]
    assert titles.count("collect responses") == 2
    for number, handed in enumerate([False, False, True, True]):
        task = tasks[titles.index(f"iteration {number}")]
        assert ("earlier" in task["inputs"]["artifacts"]) is handed
        joined = spec["components"][task["componentRef"]["name"]]["dag"]["tasks"]["build-triplets"]
        assert ("earlier" in joined["inputs"]["artifacts"]) is handed


@pytest.mark.parametrize(
    ("pipeline", "data", "options", "message"),
    [
        ("evaluat", {"heldout": "h"}, {}, "unknown pipeline 'evaluat'"),
        ("evaluate", {}, {}, r"data\.heldout"),
        ("evaluate", {"heldout": "h"}, {"registry": "r"}, "promotes no model"),
        ("run", {}, {"registry": "r"}, r"data\.heldout"),
        ("run", {"heldout": "h"}, {"model": "m"}, r"model\.path"),
        ("run", {"heldout": "h"}, {"iteration": 1}, "plays all"),
        ("run", {"heldout": "h"}, {"shards": 0}, "shards is 0"),
    ],
)
def test_what_cannot_be_compiled_is_refused(
    pipeline: str, data: dict[str, str], options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    plan = Plan(_config(**data), load_profile("cpu"), **options)
    with pytest.raises(InputError, match=message):
        compile_pipeline(pipeline, plan, tmp_path / "pipeline.yaml")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("pipeline", "options", "iterations", "refused"),
    [
        ("run", {}, 4, False),
        ("iteration", {"iteration": 2, "model": "m"}, 9, True),
        ("iteration", {"iteration": 1, "model": "m"}, 9, False),
        ("evaluate", {"model": "m"}, 9, False),
    ],
)
def test_only_a_whole_run_hands_on_the_responses_of_earlier_policies(
    pipeline: str, options: dict[str, Any], iterations: int, refused: bool, tmp_path: Path
) -> None:
    train = TrainConfig(method="tspin_all")
    played = {"train": train, "iterations": iterations}
    config = _config(heldout="h").model_copy(update=played)
    out = tmp_path / "pipeline.yaml"
    plan = Plan(config, load_profile("cpu"), **options)
    if not refused:
        compile_pipeline(pipeline, plan, out)
        return
    with pytest.raises(InputError, match=r"iteration is 2 and train\.method 'tspin_all'"):
        compile_pipeline(pipeline, plan, out)


def test_components_are_published_for_other_pipelines(tmp_path: Path) -> None:
    profile = load_profile("gke-h100")
    published = publish_components(profile, tmp_path)
    assert {path.stem for path in published} == set(shipped_components())
    for path in published:
        component = components.load_component_from_file(str(path))
        assert component.description, path
        image = component.component_spec.implementation.container.image
        assert image in {profile.image(stage) for _, stage in profile.stages}
        definitions = next(iter(_documents(path)[0]["components"].values()))
        kinds = definitions["inputDefinitions"].values()
        assert all(given.get("description") for kind in kinds for given in kind.values()), path
