"""Components with what a catalogue asks for beside them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from kfp import components

from tspin.errors import InputError
from tspin_pipelines.profiles.profile import load_profile
from tspin_pipelines.publishing.components import publish_components, shipped_components


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("components")
    written = publish_components(load_profile("cpu"), out, described=True)
    assert sorted(written) == sorted(path for path in out.rglob("*") if path.is_file())
    assert {path.parent.name for path in written} == set(shipped_components())
    return out


@pytest.mark.parametrize("name", shipped_components())
def test_each_input_and_output_is_told_as_the_component_has_it(published: Path, name: str) -> None:
    component = components.load_component_from_file(str(published / name / "component.yaml"))
    text = (published / name / "README.md").read_text()
    assert text.startswith(f"# {name}\n")
    inputs, outputs = text.split("## Inputs")[1].split("## Outputs")
    told = re.findall(r"^\| `(\w+)` \|.*\| (.*) \|$", inputs, re.MULTILINE)
    assert {one for one, _ in told} == {*(component.component_spec.inputs or {})}
    made = re.findall(r"^\| `(\w+)` \|.*\| (.*) \|$", outputs.split("## Use")[0], re.MULTILINE)
    assert {one for one, _ in made} == {*(component.component_spec.outputs or {})}
    assert all(about.strip() for _, about in (*told, *made)), text


@pytest.mark.parametrize("name", shipped_components())
def test_the_metadata_has_the_fields_of_the_catalogue_in_its_order(
    published: Path, name: str
) -> None:
    """As kubeflow/pipelines-components checks them; OWNERS are for who offers a component."""
    values = yaml.safe_load((published / name / "metadata.yaml").read_text())
    assert [*values] == ["name", "stability", "dependencies", "tags", "lastVerified"]
    assert values["name"] == name
    assert values["stability"] in {"experimental", "alpha", "beta", "stable"}
    assert values["dependencies"] == {"kubeflow": [{"name": "Pipelines", "version": ">=2.17.0"}]}
    assert all(isinstance(tag, str) for tag in values["tags"])
    assert isinstance(values["lastVerified"], datetime)
    assert abs((datetime.now(UTC) - values["lastVerified"]).days) < 1


def test_a_readme_of_somebody_else_stays(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "README.md").write_text("# My notes\n")
    with pytest.raises(InputError, match=r"README\.md"):
        publish_components(load_profile("cpu"), tmp_path, described=True)
    assert [path.name for path in tmp_path.rglob("*.*")] == ["README.md"]
