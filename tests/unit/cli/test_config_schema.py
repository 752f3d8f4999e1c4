"""The schema that editors get takes what `tspin` takes, and refuses unknown keys."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner

from tspin.cli.main import app
from tspin.config import RunConfig

ROOT = Path(__file__).parents[3]
CONFIGS = [
    *sorted((ROOT / "configs").glob("*.yaml")),
    ROOT / "params.yaml",
    *(ROOT / "tspin").rglob("params.yaml"),
]


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    printed = CliRunner().invoke(app, ["config", "schema"])
    assert printed.exit_code == 0, printed.output
    loaded: dict[str, Any] = json.loads(printed.stdout)
    jsonschema.Draft202012Validator.check_schema(loaded)
    return loaded


@pytest.fixture
def settings() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "configs/demo.yaml").read_text())
    return loaded


def _refusals(schema: dict[str, Any], settings: dict[str, Any]) -> list[str]:
    problems = jsonschema.Draft202012Validator(schema).iter_errors(settings)
    return [problem.message for problem in problems]


def test_there_are_configurations_to_try() -> None:
    assert len(CONFIGS) >= 7


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_configuration_of_the_project_is_taken(path: Path, schema: dict[str, Any]) -> None:
    assert _refusals(schema, yaml.safe_load(path.read_text())) == []


@pytest.mark.parametrize("section", ["", "train", "evaluate"])
def test_an_unknown_key_is_refused(
    section: str, schema: dict[str, Any], settings: dict[str, Any]
) -> None:
    (settings[section] if section else settings)["learning_rte"] = 1
    [refusal] = _refusals(schema, settings)
    # At the top, where sections of others may stand, the message names the names that these have.
    assert "'learning_rte' was unexpected" in refusal or "'learning_rte' does not match" in refusal


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [("train", "method", "dpo"), ("train", "beta", -1), ("prompt", "max_length", "long")],
)
def test_a_value_out_of_range_is_refused(
    section: str, key: str, value: object, schema: dict[str, Any], settings: dict[str, Any]
) -> None:
    changed = copy.deepcopy(settings)
    changed[section][key] = value
    assert _refusals(schema, settings) == []
    assert _refusals(schema, changed)


def test_what_a_setting_means_stands_in_the_schema(schema: dict[str, Any]) -> None:
    train = schema["$defs"]["TrainConfig"]
    assert train["properties"]["sft_weight"]["description"].startswith("Weight of -logp(y)")
    assert set(schema["properties"]) == set(RunConfig.model_fields)
