"""Who is told of a run is known before anything is computed, and costs nothing where nobody is."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

import tspin.tracking.trackers
from tspin.config import RunConfig
from tspin.errors import InputError
from tspin.tracking.trackers import (
    callback_names,
    check_trackers,
    handed_run,
    is_tracked,
    mlflow_address,
)


def config(*trackers: str) -> RunConfig:
    values: dict[str, Any] = {
        "run_dir": "runs/r",
        "model": {"path": "m"},
        "data": {"annotated": "a.jsonl"},
        "system": {"report_to": trackers},
    }
    return RunConfig.model_validate(values)


def test_a_tracker_that_is_not_installed_is_refused_with_what_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tspin.tracking.trackers, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"'wandb', which is not installed; pip install wandb"):
        check_trackers(config("wandb"))
    with pytest.raises(InputError, match=r"pip install 'tspin\[mlflow\]'"):
        check_trackers(config("mlflow"))
    check_trackers(config("clearml"))  # transformers knows it, and says what it lacks.
    monkeypatch.setattr(tspin.tracking.trackers, "find_spec", lambda name: name == "tensorboardX")
    check_trackers(config("tensorboard"))


def test_the_known_trackers_are_those_of_transformers() -> None:
    with pytest.raises(InputError, match="'nonsense'; the trackers are: ") as error:
        check_trackers(config("nonsense"))
    known = str(error.value).partition("are: ")[2].split(", ")
    assert known == sorted(INTEGRATION_TO_CALLBACK)


def test_mlflow_needs_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tspin.tracking.trackers, "find_spec", lambda name: True)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(InputError, match="MLFLOW_TRACKING_URI is not set"):
        check_trackers(config("mlflow"))
    assert not is_tracked(config("mlflow"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.test")
    check_trackers(config("mlflow"))


def test_a_run_is_handed_down_with_the_address_of_its_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "abc")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert handed_run() is None
    assert not is_tracked(config())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.test")
    assert handed_run() == "abc"
    assert is_tracked(config())
    assert is_tracked(None)


def test_a_handed_run_without_the_package_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "abc")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret-of-mine@mlflow.test")
    monkeypatch.setattr(tspin.tracking.trackers, "find_spec", lambda name: None)
    assert not is_tracked(config())
    assert "mlflow is not installed" in caplog.text
    assert "mlflow.test" in mlflow_address()
    assert "secret-of-mine" not in caplog.text


def test_transformers_calls_what_nobody_else_does() -> None:
    assert callback_names(config("mlflow", "wandb", "dvclive", "wandb")) == ["wandb"]


def test_nothing_more_is_imported_where_nobody_is_told() -> None:
    code = """
import sys
from tspin.tracking.tracked import Step, tracked_step
from pathlib import Path
with tracked_step(Step("train", Path("model"))):
    pass
print(sorted(n for n in sys.modules if n.startswith(("tspin.tracking.", "mlflow", "torch"))))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['tspin.tracking.tracked', 'tspin.tracking.trackers']\n"
