"""The components as reusable YAML: `kfp.components.load_component_from_file` reads them."""

from __future__ import annotations

import importlib
import pkgutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kfp import compiler, dsl

import tspin_components
from tspin.files import atomic_file
from tspin.outputs import Recognition, begins_with, check_output
from tspin_components.image import IMAGE
from tspin_pipelines.compile import compiled_pipeline
from tspin_pipelines.plan import StageName
from tspin_pipelines.profiles.profile import Profile
from tspin_pipelines.publishing.described import metadata_of, readme_of

__all__ = ["publish_components", "shipped_components"]

_STAGES: dict[str, StageName] = {
    "generate": "generate",
    "train": "train",
    "evaluate": "evaluate",
    "merge_evaluations": "evaluate",
    "fetch_tasks": "evaluate",
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


def publish_components(profile: Profile, out: Path, *, described: bool = False) -> list[Path]:
    """Write one YAML file a component, on the image that its stage has in the profile.

    Args:
        profile: Says the images.
        out: A folder.
        described: Give each component a folder of its own, with README.md and metadata.yaml, as
            kubeflow/pipelines-components asks for them.

    Returns:
        The files, sorted by name; each appears whole or not at all.

    Raises:
        InputError: a file of one of these names is no such component.
    """
    shipped = sorted(shipped_components().items())
    files = {name: _files(out, name, described=described) for name, _ in shipped}
    for found in files.values():
        for path, ours in found.items():
            check_output(path, ours)
    written = []
    for name, component in shipped:
        stage = _STAGES.get(name, "light")
        image = profile.image(getattr(profile.stages, stage))
        texts = [_compiled(component).replace(IMAGE, image)]
        if described:
            tags = ["tspin", stage]
            texts += [readme_of(name, component, image), metadata_of(name, tags, datetime.now(UTC))]
        for path, text in zip(files[name], texts, strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(path) as file:
                file.write(text.encode())
            written.append(path)
    return written


def _files(out: Path, name: str, *, described: bool) -> dict[Path, Recognition]:
    """What is written of a component, and how an earlier one is known."""
    if not described:
        return {out / f"{name}.yaml": compiled_pipeline(name)}
    return {
        out / name / "component.yaml": compiled_pipeline(name),
        out / name / "README.md": begins_with(f"# {name}\n"),
        out / name / "metadata.yaml": begins_with(f"name: {name}\n"),
    }


def _compiled(component: Any) -> str:
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder) / "component.yaml"
        compiler.Compiler().compile(component, str(temporary))
        return temporary.read_text(encoding="utf-8")
