"""What a compiled pipeline is besides its graph: how long it lasts, and as objects of a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

import tspin
from tspin.cli.main import app
from tspin.config import load_config
from tspin.errors import InputError
from tspin_pipelines.compile import compile_pipeline
from tspin_pipelines.plan import Plan
from tspin_pipelines.profiles.profile import Profile, load_profile

ROOT = Path(__file__).parents[3]


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.load_all(path.read_text(), Loader=yaml.CSafeLoader))


def compiled(out: Path, form: Any = "pipeline", **settings: Any) -> list[dict[str, Any]]:
    values = load_profile("cpu").model_dump(mode="json") | settings
    plan = Plan(load_config(ROOT / "configs/demo.yaml"), Profile.model_validate(values))
    compile_pipeline("evaluate", plan, out, form)
    return documents(out)


@pytest.mark.parametrize(
    ("lifetime", "told"),
    [
        ({}, None),
        (
            {"deadline_seconds": 86_400, "keep_seconds": 3_600},
            {"activeDeadlineSeconds": 86_400, "resourceTtlOnCompletion": 3_600},
        ),
        (
            {"keep_seconds": 60, "keep_failed_seconds": 604_800},
            {"resourceTtlOnCompletion": 60, "resourceTtlOnFailure": 604_800},
        ),
    ],
)
def test_the_profile_says_how_long_a_run_lasts(
    tmp_path: Path, lifetime: dict[str, int], told: dict[str, int] | None
) -> None:
    _, platform = compiled(tmp_path / "pipeline.yaml", lifetime=lifetime)
    assert platform["platforms"]["kubernetes"].get("pipelineConfig") == told


@pytest.mark.parametrize("seconds", [0, -1, 2**31, 1.5])
def test_a_lifetime_that_argo_cannot_have_is_refused(seconds: float) -> None:
    values = load_profile("cpu").model_dump(mode="json")
    with pytest.raises(ValueError, match=r"lifetime\.deadline_seconds"):
        Profile.model_validate(values | {"lifetime": {"deadline_seconds": seconds}})


def test_objects_hold_the_same_pipeline_under_a_name_that_changes_with_it(tmp_path: Path) -> None:
    spec, platform = compiled(tmp_path / "pipeline.yaml")
    pipeline, version = compiled(tmp_path / "objects.yaml", "crd")
    for one, kind in ((pipeline, "Pipeline"), (version, "PipelineVersion")):
        assert (one["apiVersion"], one["kind"]) == ("pipelines.kubeflow.org/v2beta1", kind)
        assert one["metadata"]["namespace"] == "tspin"
    assert pipeline["metadata"]["name"] == version["spec"]["pipelineName"] == "tspin-evaluate"
    assert version["spec"]["pipelineSpec"] == spec
    assert version["spec"]["platformSpec"] == platform
    names = {version["metadata"]["name"]}
    assert documents(tmp_path / "objects.yaml")[1]["metadata"]["name"] in names
    [_, again] = compiled(tmp_path / "again.yaml", "crd")
    [_, other] = compiled(tmp_path / "other.yaml", "crd", lifetime={"keep_seconds": 60})
    assert again == version
    assert other["metadata"]["name"] not in names


def test_the_command_writes_objects_and_knows_them_again(tmp_path: Path) -> None:
    out = tmp_path / "pipeline.yaml"

    def command(*more: str) -> None:
        arguments = ["pipeline", "compile", "--config", str(ROOT / "configs/demo.yaml")]
        arguments += ["--profile", "cpu", "--pipeline", "evaluate", "--out", str(out), *more]
        ran = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert ran.exit_code == 0, ran.output

    for _ in range(2):
        command("--format", "crd")
    assert [one["kind"] for one in documents(out)] == ["Pipeline", "PipelineVersion"]
    with pytest.raises(InputError, match=r"pipeline\.yaml"):
        command()
    assert [one["kind"] for one in documents(out)] == ["Pipeline", "PipelineVersion"]


def test_a_version_has_tags_that_it_is_found_by(tmp_path: Path) -> None:
    plan = Plan(load_config(ROOT / "configs/demo.yaml"), load_profile("cpu"))
    out = tmp_path / "objects.yaml"
    compile_pipeline("evaluate", plan, out, "crd", tags=["team=nlp", "images=mine"])
    pipeline, version = documents(out)
    tags = version["spec"]["tags"]
    assert tags == {
        "tspin": tspin.__version__,
        "method": "tspin",
        "overlay": "kind-cpu",
        "team": "nlp",
        "images": "mine",
    }
    assert "tags" not in pipeline["spec"]
    assert not any("." in key for key in tags)


@pytest.mark.parametrize(
    ("form", "tags", "told"),
    [
        ("pipeline", ["team=nlp"], "--tag needs --format crd"),
        ("crd", ["team"], "--tag team: expected KEY=VALUE"),
        ("crd", ["=nlp"], "expected KEY=VALUE"),
        ("crd", ["a.b=c"], r"with no '\.' in KEY"),
        ("crd", ["a=b", "a=c"], "'a' is given twice"),
        ("crd", [f"a={'x' * 64}"], "63 characters"),
        ("crd", [f"t{number}=" for number in range(17)], "the 20 that Kubeflow takes"),
    ],
)
def test_tags_that_kubeflow_refuses_are_refused_before(
    tmp_path: Path, form: Any, tags: list[str], told: str
) -> None:
    plan = Plan(load_config(ROOT / "configs/demo.yaml"), load_profile("cpu"))
    with pytest.raises(InputError, match=told):
        compile_pipeline("evaluate", plan, tmp_path / "out.yaml", form, tags=tags)
    assert not (tmp_path / "out.yaml").exists()
