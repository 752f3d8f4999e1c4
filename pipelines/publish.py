"""The components as reusable YAML: `kfp.components.load_component_from_file` reads them."""

from __future__ import annotations

import importlib
import pkgutil
import tempfile
from pathlib import Path
from typing import Any

from kfp import compiler, dsl

import tspin_components
from tspin.files import atomic_file
from tspin.outputs import check_output
from tspin_components.image import IMAGE
from tspin_pipelines.compile import compiled_pipeline
from tspin_pipelines.plan import StageName
from tspin_pipelines.profiles.profile import Profile

__all__ = ["publish_components", "shipped_components"]

_STAGES: dict[str, StageName] = {
    "generate": "generate",
    "train": "train",
    "evaluate": "evaluate",
    "merge_evaluations": "evaluate",
    "train_multinode": "transfer",
    "check_registry": "promote",
    "promote": "promote",
}
"""Components that are not here run in the light stage."""


def shipped_components() -> dict[str, Any]:
    """All components by name; each stands in the module of its name."""
    shipped = {}
    for module in pkgutil.iter_modules(tspin_components.__path__):
        member = getattr(
            importlib.import_module(f"tspin_components.{module.name}"), module.name, None
        )
        if isinstance(member, dsl.base_component.BaseComponent):
            shipped[module.name] = member
    return shipped


def publish_components(profile: Profile, out: Path) -> list[Path]:
    """Write one YAML file a component, on the image that its stage has in the profile.

    Returns:
        The files, sorted by name; each appears whole or not at all.

    Raises:
        InputError: a file of one of these names is no such component.
    """
    shipped = sorted(shipped_components().items())
    for name, _ in shipped:
        check_output(out / f"{name}.yaml", compiled_pipeline(name))
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for name, component in shipped:
        stage = getattr(profile.stages, _STAGES.get(name, "light"))
        with tempfile.TemporaryDirectory() as folder:
            temporary = Path(folder) / "component.yaml"
            compiler.Compiler().compile(component, str(temporary))
            text = temporary.read_text(encoding="utf-8").replace(IMAGE, profile.image(stage))
        path = out / f"{name}.yaml"
        with atomic_file(path) as file:
            file.write(text.encode())
        written.append(path)
    return written
