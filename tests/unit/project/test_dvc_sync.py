"""The stages that `tspin dvc sync` writes, and what it refuses."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from tspin.config import load_config
from tspin.errors import InputError
from tspin.project import sync_stages
from tspin.project.init import init_project

ROOT = Path(__file__).parents[3]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    init_project(folder)
    return folder


def change(project: Path, **sections: Any) -> None:
    path = project / "params.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | sections))


def stages(project: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((project / "dvc.yaml").read_text())["stages"]
    return found


def test_a_new_project_is_in_step(project: Path) -> None:
    assert not sync_stages(project, check=True)
    assert [item["prev"] for item in stages(project)["train"]["foreach"]] == [
        "sample/base",
        "runs/first/iter-0/model",
        "runs/first/iter-1/model",
    ]


def test_this_repository_is_in_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert not sync_stages(ROOT, check=True)


def test_more_iterations_are_written_and_own_stages_stay(project: Path) -> None:
    path = project / "dvc.yaml"
    values = yaml.safe_load(path.read_text())
    values["stages"]["mine"] = {"cmd": "true"}
    path.write_text(yaml.safe_dump(values))
    change(project, iterations=5)
    with pytest.raises(InputError, match=r"dvc\.yaml was not written for this params\.yaml"):
        sync_stages(project, check=True)
    assert sync_stages(project)
    assert len(stages(project)["train"]["foreach"]) == 5
    assert stages(project)["mine"] == {"cmd": "true"}


def test_supervised_fine_tuning_has_no_responses_and_no_triplets(project: Path) -> None:
    train = yaml.safe_load((project / "params.yaml").read_text())["train"]
    change(project, train=train | {"method": "sft"})
    sync_stages(project)
    assert set(stages(project)) == {"check", "evaluate-initial", "train", "evaluate", "finish"}


def test_methods_that_play_have_the_same_stages(project: Path) -> None:
    train = yaml.safe_load((project / "params.yaml").read_text())["train"]
    change(project, train=train | {"method": "spin"})
    sync_stages(project)
    found = (project / "dvc.yaml").read_bytes()
    change(project, train=train | {"method": "rft", "rft_extractor": "last_number"})
    sync_stages(project, check=True)
    assert (project / "dvc.yaml").read_bytes() == found


def test_triplets_of_all_policies_watch_all_their_responses(project: Path) -> None:
    values = yaml.safe_load((project / "params.yaml").read_text())
    before = stages(project)
    change(project, iterations=4, train=values["train"] | {"method": "tspin_all"})
    sync_stages(project)
    found = stages(project)
    assert [item["t"] for item in found["triplets"]["foreach"]] == [0, 1]
    last, command = found["triplets-3"], shlex.split(found["triplets-3"]["cmd"])
    run = values["run_dir"]
    given = [command[at + 1] for at, word in enumerate(command) if word == "--earlier"]
    assert given == [f"{run}/iter-{number}/synthetic.jsonl" for number in (1, 2)]
    assert command[command.index("--synthetic") + 1] == f"{run}/iter-3/synthetic.jsonl"
    assert {*given, *(f"{path}.manifest.json" for path in given)} < {*last["deps"]}
    assert last["outs"][0] == f"{run}/iter-3/triplets.jsonl"
    assert len(found["triplets-2"]["deps"]) == len(last["deps"]) - 2
    # Back again, and nothing of it is left.
    change(project, iterations=values["iterations"], train=values["train"])
    sync_stages(project)
    assert stages(project) == before


def test_held_out_prompts_have_one_response(project: Path) -> None:
    generate = yaml.safe_load((project / "params.yaml").read_text())["generate"]
    change(project, generate=generate | {"samples": 4})
    sync_stages(project)
    found = stages(project)
    assert found["heldout-proto"]["cmd"].endswith(" --set generate.samples=1")
    assert "samples" not in found["proto"]["cmd"]


def test_coupled_responses_have_those_before_them_as_drafts(project: Path) -> None:
    settings = yaml.safe_load((project / "params.yaml").read_text())
    generate = settings["generate"] | {"coupled": True}
    change(project, generate=generate)
    sync_stages(project)
    found = stages(project)["generate"]
    items = [(item["t"], item["drafts"]) for item in found["foreach"]]
    assert items == [(1, "proto.jsonl"), (2, "iter-1/synthetic.jsonl")]
    assert found["do"]["cmd"].endswith(" --drafts runs/first/${item.drafts}")
    assert "runs/first/${item.drafts}" in found["do"]["deps"]
    for without in (
        {"generate": generate | {"coupled": False}},
        {"generate": generate | {"engine": "vllm"}},
        {"generate": generate, "system": settings.get("system", {}) | {"drafts": False}},
    ):
        change(project, **without)
        sync_stages(project)
        assert "drafts" not in str(stages(project)["generate"])


def test_without_heldout_records_nothing_is_evaluated(project: Path) -> None:
    change(project, data={"annotated": "sample/annotated.jsonl"}, gate={"metric": "nll_per_token"})
    sync_stages(project)
    assert not {"evaluate", "evaluate-initial", "heldout-proto"} & set(stages(project))


@pytest.mark.parametrize("section", ["triplets", "evaluate"])
def test_a_section_that_dvc_watches_must_be_there(project: Path, section: str) -> None:
    path = project / "params.yaml"
    values = yaml.safe_load(path.read_text())
    del values[section]
    path.write_text(yaml.safe_dump(values))
    before = (project / "dvc.yaml").read_bytes()
    with pytest.raises(InputError, match=f"{section} is missing; write '{section}: {{}}'"):
        sync_stages(project)
    assert (project / "dvc.yaml").read_bytes() == before


def test_every_setting_that_decides_a_result_is_watched_by_the_stage(project: Path) -> None:
    found = stages(project)
    assert "train" in found["train"]["do"]["params"]
    assert "train" not in found["generate"]["do"]["params"]
    for name in ("seed", "model", "prompt", "generate"):
        assert name in found["generate"]["do"]["params"]
    watched = {name for stage in found.values() for name in stage.get("do", stage)["params"]}
    assert "system" not in watched


@pytest.mark.parametrize("margin", [None, 0.1])
def test_no_iteration_waits_for_an_evaluation(project: Path, margin: float | None) -> None:
    """With a margin neither: DVC cannot stop early, so the gate is asked when all have played."""
    values = yaml.safe_load((project / "params.yaml").read_text())
    change(project, gate=values["gate"] | {"margin": margin})
    sync_stages(project)
    found = stages(project)
    measured = [out for name in ("evaluate", "evaluate-initial") for out in outputs(found[name])]
    assert any("metrics.json" in out for out in measured)
    for name in ("proto", "generate", "triplets", "train"):
        stage = found[name].get("do", found[name])
        assert not set(stage["deps"]) & set(measured), name
        assert not [dep for dep in stage["deps"] if "metrics" in dep or "best" in dep], name
    assert [dep for dep in found["finish"]["deps"] if "metrics.json" in dep]


def outputs(stage: dict[str, Any]) -> list[str]:
    outs = stage.get("do", stage)["outs"]
    return [next(iter(out)) if isinstance(out, dict) else out for out in outs]


def test_outputs_are_cached_and_none_persists(project: Path) -> None:
    """Uncached metrics would not come back from the run cache, nor a persistent output go."""
    listed = [
        output
        for stage in stages(project).values()
        for kind in ("outs", "metrics")
        for output in stage.get("do", stage).get(kind, ())
    ]
    assert len(listed) > 20
    assert all(isinstance(output, str) for output in listed)  # No `cache: false`, no `persist`.


def test_a_folder_of_tasks_is_watched_where_it_is_used(project: Path) -> None:
    def watching() -> list[str]:
        sync_stages(project)
        bodies = {name: stage.get("do", stage) for name, stage in stages(project).items()}
        deps = {name: body.get("deps", ()) for name, body in bodies.items()}
        return [name for name, listed in deps.items() if any("tasks" in dep for dep in listed)]

    harness = {"task_folder": "sample/tasks"}
    change(project, evaluate={"tasks": ["demo_answer"], "harness": harness})
    assert watching() == ["evaluate-initial", "evaluate"]
    change(project, evaluate={"harness": harness})
    assert watching() == []
    remote = {"task_folder": "s3://bucket/tasks"}
    change(project, evaluate={"tasks": ["demo_answer"], "harness": remote})
    assert watching() == []


def test_a_chat_template_of_ones_own_is_watched_by_all_that_render(project: Path) -> None:
    def watching() -> list[str]:
        sync_stages(project)
        bodies = {name: stage.get("do", stage) for name, stage in stages(project).items()}
        watched = "own.jinja"
        return [name for name, body in bodies.items() if watched in body.get("deps", ())]

    assert watching() == []
    change(project, prompt={"template": "auto", "chat_template": "own.jinja"})
    assert {"proto", "generate", "train", "evaluate", "evaluate-initial"} <= set(watching())
    assert "triplets" not in watching()
    change(project, prompt={"template": "auto", "chat_template": "s3://bucket/own.jinja"})
    assert watching() == []


def test_what_experiments_are_told_to_change_is_there(project: Path) -> None:
    """DVC changes a parameter only where it stands already."""
    train = yaml.safe_load((project / "params.yaml").read_text())["train"]
    assert {"beta", "learning_rate"} <= train.keys()


def test_a_command_holds_no_value_that_dvc_puts_in_later(project: Path) -> None:
    """DVC puts values into commands as they are, and a shell would run what is in them."""
    bodies = [stage.get("do", stage) for stage in stages(project).values()]
    assert len(bodies) > 5
    for body in bodies:
        assert not re.findall(r"\$\{(?!item\.(?:t|prev|synthetic|quoted)\})", body["cmd"])


def test_paths_are_quoted_for_the_shell(project: Path) -> None:
    (project / "my 'base'").mkdir()
    run = "runs/$(touch y) & [a]"
    change(project, run_dir=run, model={"path": "my 'base'"})
    sync_stages(project)
    bodies = {name: stage.get("do", stage) for name, stage in stages(project).items()}
    proto = shlex.split(bodies["proto"]["cmd"])
    assert proto[proto.index("--model") + 1] == "my 'base'"
    assert proto[proto.index("--out") + 1] == f"{run}/proto.jsonl" == bodies["proto"]["outs"][0]
    for item in stages(project)["train"]["foreach"]:
        words = shlex.split(bodies["train"]["cmd"].replace("${item.quoted}", item["quoted"]))
        assert words[words.index("--model") + 1] == item["prev"]
    for item in stages(project)["triplets"]["foreach"]:
        assert shlex.split(item["quoted"]) == [item["synthetic"]]


@pytest.mark.parametrize(
    ("run_dir", "message"),
    [
        ("s3://bucket/run", "DVC keeps outputs in the project's folder"),
        ("../outside", "outside of the project"),
        ("/somewhere/else", "outside of the project"),
        ("~/runs/a", "outside of the project"),
        ("runs/${seed}", "DVC puts a parameter in the place of"),
        ("runs/a\nb", "control character"),
    ],
)
def test_what_dvc_cannot_keep_is_refused(project: Path, run_dir: str, message: str) -> None:
    before = (project / "dvc.yaml").read_bytes()
    change(project, run_dir=run_dir)
    with pytest.raises(InputError, match=re.escape(message)):
        sync_stages(project)
    assert (project / "dvc.yaml").read_bytes() == before


def test_stages_and_plots_of_others_stay(project: Path) -> None:
    path = project / "dvc.yaml"
    values = yaml.safe_load(path.read_text())
    mine = {"my curve": {"x": "step", "y": {"mine.csv": "loss"}}}
    values["plots"].append(mine)
    path.write_text(yaml.safe_dump(values))
    change(project, iterations=4)
    sync_stages(project)
    assert yaml.safe_load(path.read_text())["plots"][-1] == mine
    values["stages"]["train"] = {"cmd": "python train.py"}
    path.write_text(yaml.safe_dump(values))
    before = path.read_bytes()
    with pytest.raises(InputError, match="has a stage 'train' that tspin did not write"):
        sync_stages(project)
    assert path.read_bytes() == before


def test_sections_of_others_are_let_be(project: Path) -> None:
    change(project, **{"x-clean": {"min": 3}, "features": {"n": 2}, "x-sections": ["features"]})
    assert load_config(project / "params.yaml").iterations == 3
    for listed, message in (
        ([], r"unknown key 'features'.*x-sections"),
        (["features", "train"], "names 'train', which is a setting of tspin's own"),
        ("features", "expected a list of names of sections"),
    ):
        change(project, **{"x-sections": listed})
        with pytest.raises(InputError, match=message):
            load_config(project / "params.yaml")
