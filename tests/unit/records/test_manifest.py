"""Manifests: when an output counts as current, and what those of earlier releases leave open."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest

from tspin.records.manifest import Manifest, is_current, write_manifest

PRECISION = {"dtype": "float32", "attn_implementation": None}


def written(
    path: Path, kind: Literal["responses", "metrics", "model"] = "responses", **parameters: Any
) -> Path:
    """An output whose manifest holds these parameters."""
    path.write_text("{}\n")
    write_manifest(path, Manifest(kind=kind, engine="transformers", parameters=parameters))
    return path


def current(path: Path, kind: Any = "responses", **parameters: Any) -> bool:
    """Whether that output is what these parameters ask for."""
    asked = Manifest(kind=kind, engine="transformers", parameters=parameters)
    return is_current(path, asked)


@pytest.mark.parametrize(
    "change", [{"dtype": "bfloat16"}, {"attn_implementation": "eager"}, {"top_p": 0.5}]
)
def test_another_precision_or_attention_is_another_output(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    parameters = {"top_p": 1.0, **PRECISION}
    path = written(tmp_path / "synthetic.jsonl", **parameters)
    assert current(path, **parameters)
    assert not current(path, **parameters | change)


@pytest.mark.parametrize("recorded", [{}, {"dtype": "auto"}])
def test_a_manifest_that_names_no_precision_agrees_with_any(
    tmp_path: Path, recorded: dict[str, Any]
) -> None:
    """As earlier releases wrote them: a finished run is not computed again."""
    path = written(tmp_path / "metrics.json", "metrics", top_p=1.0, **recorded)
    assert current(path, "metrics", top_p=1.0, **PRECISION)
    assert current(path, "metrics", top_p=1.0, **PRECISION | {"dtype": "bfloat16"})
    assert not current(path, "metrics", top_p=0.5, **PRECISION)


def test_the_precision_of_a_training_was_always_recorded(tmp_path: Path) -> None:
    path = written(tmp_path / "weights", "model", dtype="auto")
    assert current(path, "model", dtype="auto")
    assert not current(path, "model", dtype="bfloat16")
