"""Registries with champions to serve, and a profile whose claim holds them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from typer.testing import CliRunner

from tests.registry_models import METRIC, make_adapter, make_metrics, make_model
from tspin.registry import Record, promote
from tspin_pipelines.profiles.profile import PROFILES, Profile, load_profile
from tspin_pipelines.serving.commands import app

BASE = "org/base"


def on_claim(folder: Path, name: str = "eks-l4-spot", **changed: Any) -> Path:
    """A shipped profile that mounts its claim at a folder of this test."""
    text = (PROFILES / f"{name}.yaml").read_text()
    values = yaml.safe_load(text.replace("path: /cache}", f"path: {folder}}}"))
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(values | changed))
    return path


def profile(path: Path) -> Profile:
    return load_profile(str(path))


def champion(
    folder: Path,
    registry: Path | str,
    seed: int,
    *,
    adapter: bool = False,
    temperature: float | None = None,
    base: str = BASE,
    dtype: str = "bfloat16",
    n: int = 400,
    files: Mapping[str, str] | None = None,
    **described: Any,
) -> Record:
    """Promote a model of its own, better than the ones before."""
    model = folder / f"model-{seed}"
    if adapter:
        make_adapter(model, seed, base, **described)
    else:
        make_model(model, seed)
    for name, text in (files or {}).items():
        (model / name).write_text(text)
    metrics = make_metrics(
        folder / f"metrics-{seed}.json",
        model,
        0.5 + 0.1 * seed,
        temperature=temperature,
        engine="vllm",
        n=n,
        dtype=dtype,
    )
    return promote(
        model, metrics=metrics, registry=str(registry), metric=METRIC, direction="max", by="ci"
    )


def deploy(registry: Path | str, to: str, profile: Path, *options: object) -> list[dict[str, Any]]:
    """The documents that the command prints."""
    asked = ["--registry", registry, "--to", to, "--profile", profile, *options]
    done = CliRunner().invoke(app, [str(one) for one in asked])
    if done.exception is not None:
        raise done.exception
    return list(yaml.safe_load_all(done.stdout))
