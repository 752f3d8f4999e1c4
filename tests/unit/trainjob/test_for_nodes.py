"""What the nodes of a training are not told: they have no tracker's address, and no token."""

from __future__ import annotations

import pytest

pytest.importorskip("kubernetes", reason="the Kubernetes client is not installed")

from tspin.config import RunConfig
from tspin_trainjob.step import _for_nodes


def test_mlflow_is_told_from_the_task_and_all_else_by_the_nodes() -> None:
    config = RunConfig.model_validate(
        {
            "run_dir": "runs/r",
            "model": {"path": "m"},
            "data": {"annotated": "a.jsonl"},
            "system": {"report_to": ["mlflow", "tensorboard"], "tokens_per_device": 77},
        }
    )
    sent = RunConfig.model_validate_json(_for_nodes(config))
    assert sent.system.report_to == ("tensorboard",)
    assert sent.system.tokens_per_device == 77
    assert sent.model_copy(update={"system": config.system}) == config
