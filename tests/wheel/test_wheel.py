"""The built wheel and sdist: complete, and of use in an environment that has nothing else."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
import venv
import zipfile
from email.parser import BytesParser
from pathlib import Path

import pytest

from tests.kubeflow_project import fill_in
from tests.kubeflow_server import kubeflow_server

pytestmark = pytest.mark.wheel

ROOT = Path(__file__).parents[2]
DIST = ROOT / "dist"
VERSION = re.findall(r'^__version__ = "(.+)"$', (ROOT / "tspin/__init__.py").read_text(), re.M)[0]
WHEEL = DIST / f"tspin-{VERSION}-py3-none-any.whl"
SDIST = DIST / f"tspin-{VERSION}.tar.gz"


FOLDERS = {
    "tspin": "tspin",
    "cluster": "tspin_cluster",
    "components": "tspin_components",
    "pipelines": "tspin_pipelines",
    "trainjob": "tspin_trainjob",
}
"""Folder of the checkout to package of the wheel."""


def _sources() -> set[str]:
    """Every file of the packages that git knows, or would, by its place in the checkout."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *FOLDERS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    return {name for name in listed if (ROOT / name).is_file()}


def _installed(name: str) -> str:
    """Where a file of the checkout is in the wheel."""
    folder, _, rest = name.partition("/")
    return f"{FOLDERS[folder]}/{rest}"


@pytest.fixture(scope="module")
def in_wheel() -> set[str]:
    with zipfile.ZipFile(WHEEL) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of a new environment with the wheel and what it declares to need."""
    return _install(tmp_path_factory.mktemp("empty"), str(WHEEL))


@pytest.fixture(scope="module")
def with_kubeflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for a new environment with the extra `pipelines`."""
    return _install(tmp_path_factory.mktemp("kubeflow"), f"{WHEEL}[pipelines]")


def _install(folder: Path, wheel: str) -> Path:
    venv.create(folder, with_pip=True)
    pip = [str(folder / "bin/python"), "-m", "pip", "--disable-pip-version-check"]
    constraints = ["--constraint", str(ROOT / "constraints.txt")]
    subprocess.run(
        [*pip, "install", "--quiet", *constraints, wheel], check=True, cwd=folder, env=_clean()
    )
    return folder / "bin"


def _clean() -> dict[str, str]:
    hidden = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    return {name: value for name, value in os.environ.items() if name not in hidden}


def _run(
    environment: Path, folder: Path, *command: str, code: int = 0
) -> subprocess.CompletedProcess[str]:
    """A program of the environment, run outside of the checkout."""
    done = subprocess.run(
        [str(environment / command[0]), *command[1:]],
        cwd=folder,
        env=_clean(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def test_one_wheel_and_one_sdist_are_there() -> None:
    assert sorted(DIST.iterdir()) == [WHEEL, SDIST]


def test_the_wheel_holds_the_packages_and_nothing_else(in_wheel: set[str]) -> None:
    sources = _sources()
    assert {"tspin/py.typed", "pipelines/project/template/retrain.yml"} <= sources
    inside = {name for name in in_wheel if not name.startswith(f"tspin-{VERSION}.dist-info/")}
    assert inside == {_installed(name) for name in sources}


def test_every_package_and_every_kind_of_data_is_in_the_wheel(in_wheel: set[str]) -> None:
    packages = {path for folder in FOLDERS for path in (ROOT / folder).rglob("__init__.py")}
    assert len(packages) >= 30
    assert {_installed(path.relative_to(ROOT).as_posix()) for path in packages} <= in_wheel
    kinds = (".html.j2", ".md.j2", ".css", ".js", "params.yaml", "tasks/demo_answer.yaml")
    for kind in (*kinds, "profiles/cpu.yaml", "template/profile.yaml"):
        assert any(name.endswith(kind) for name in in_wheel), kind


def test_the_sdist_holds_what_the_wheel_is_built_from() -> None:
    with tarfile.open(SDIST) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert _sources() | {"LICENSE", "README.md", "pyproject.toml"} <= names


def test_what_the_wheel_says_of_itself(in_wheel: set[str]) -> None:
    with zipfile.ZipFile(WHEEL) as archive:
        info = f"tspin-{VERSION}.dist-info"
        metadata = BytesParser().parsebytes(archive.read(f"{info}/METADATA"))
        licence = archive.read(f"{info}/licenses/LICENSE").decode()
    assert metadata["Version"] == VERSION
    assert metadata["License-Expression"] == "Apache-2.0"
    assert "Apache License" in licence
    assert "TERMS AND CONDITIONS" in licence


def test_nothing_that_needs_a_gpu_is_needed(environment: Path, tmp_path: Path) -> None:
    installed = _run(environment, tmp_path, "python", "-m", "pip", "list", "--format", "freeze")
    names = {line.partition("==")[0].lower() for line in installed.stdout.splitlines()}
    assert names & {"pydantic", "typer"}
    assert not names & {"torch", "transformers", "vllm", "kfp", "dvc"}
    _run(environment, tmp_path, "python", "-m", "pip", "check")


def test_the_installed_package_is_the_one_imported(environment: Path, tmp_path: Path) -> None:
    code = "import tspin; print(tspin.__version__, tspin.__file__)"
    version, _, file = (
        _run(environment, tmp_path, "python", "-c", code).stdout.strip().partition(" ")
    )
    assert version == VERSION
    assert Path(file).is_relative_to(environment.parent)


def test_every_command_explains_itself(environment: Path, tmp_path: Path) -> None:
    text = _run(environment, tmp_path, "tspin", "--help").stdout
    commands = re.findall(r"^  ([a-z][a-z-]+)  ", text, re.MULTILINE)
    assert {"run", "report", "init", "doctor", "promote"} <= {*commands}
    for command in commands:
        assert "Usage:" in _run(environment, tmp_path, "tspin", command, "--help").stdout
    assert _run(environment, tmp_path, "tspin", "--version").stdout.split() == ["tspin", VERSION]


def test_a_project_is_made_and_its_data_checked(environment: Path, tmp_path: Path) -> None:
    _run(environment, tmp_path, "tspin", "init", "project")
    project = tmp_path / "project"
    assert (project / "sample/base/model.safetensors").stat().st_size > 100_000
    assert {"params.yaml", "dvc.yaml", "README.md", ".gitignore"} <= {
        path.name for path in project.iterdir()
    }
    _run(environment, project, "tspin", "data", "validate", "sample/annotated.jsonl")
    assert '"RunConfig"' in _run(environment, project, "tspin", "config", "schema").stdout


def test_what_needs_more_packages_says_which(environment: Path, tmp_path: Path) -> None:
    _run(environment, tmp_path, "tspin", "init", "project")
    refused = _run(
        environment, tmp_path / "project", "tspin", "doctor", "--config", "params.yaml", code=1
    )
    assert "torch" in refused.stdout


def test_without_the_extra_pipelines_say_what_to_install(environment: Path, tmp_path: Path) -> None:
    _run(environment, tmp_path, "tspin", "init", "project", "--kubeflow", "cpu")
    options = ["--config", "params.yaml", "--profile", "kubeflow/profile.yaml"]
    for command in (["compile", *options, "--out", "pipeline.yaml"], ["submit", *options]):
        project = tmp_path / "project"
        refused = _run(environment, project, "tspin", "pipeline", *command, code=2)
        assert len(refused.stderr.splitlines()) == 1
        assert "pip install 'tspin[pipelines]'" in refused.stderr
    assert "gke-h100" in _run(environment, tmp_path, "tspin", "pipeline", "profiles").stdout


def test_a_project_reaches_kubeflow_without_a_checkout(with_kubeflow: Path, tmp_path: Path) -> None:
    _run(with_kubeflow, tmp_path, "tspin", "init", "project", "--kubeflow", "eks-l4-spot")
    project = tmp_path / "project"
    fill_in(project / "kubeflow/profile.yaml", os.path.relpath(ROOT, project / "kubeflow"))
    _run(with_kubeflow, project, "tspin", "pipeline", "manifests")
    options = ["--config", "params.yaml", "--profile", "kubeflow/profile.yaml"]
    command = ["compile", *options, "--out", "pipeline.yaml"]
    _run(with_kubeflow, project, "tspin", "pipeline", *command)
    assert "registry.test:5000/tspin/train:" in (project / "pipeline.yaml").read_text()
    command = ["components", "--profile", "kubeflow/profile.yaml", "--out", "parts"]
    _run(with_kubeflow, project, "tspin", "pipeline", *command)
    assert (project / "parts/train.yaml").is_file()
    with kubeflow_server() as server:
        command = ["submit", *options, "--host", server.url, "--wait", "--every", "0.05"]
        done = _run(with_kubeflow, project, "tspin", "pipeline", *command)
        assert "run r-1 succeeded" in done.stdout
        (run,) = server.runs
    assert "registry.test:5000/tspin/train:" in str(run["pipeline_spec"])


def test_a_projects_manifests_render_with_plain_kubectl(environment: Path, tmp_path: Path) -> None:
    if shutil.which("kubectl") is None:
        message = "needs kubectl, whose kustomize renders the manifests"
        if os.environ.get("TSPIN_REQUIRE_KUBECTL"):
            pytest.fail(message)
        pytest.skip(message)
    _run(environment, tmp_path, "tspin", "init", "project", "--kubeflow", "eks-l4-spot")
    folder = tmp_path / "project/kubeflow"
    fill_in(folder / "profile.yaml", os.path.relpath(ROOT, folder), namespace="team")
    _run(environment, folder.parent, "tspin", "pipeline", "manifests")
    _run(environment, folder.parent, "tspin", "pipeline", "manifests", "--check")
    text = subprocess.run(
        ["kubectl", "kustomize", str(folder)], check=True, capture_output=True, text=True
    ).stdout
    images = {image.rpartition(":")[0] for image in re.findall(r"image: (\S+)", text)}
    assert images == {f"registry.test:5000/tspin/{role}" for role in ("cpu", "train")}
    assert "namespace: team" in text
    assert "namespace: tspin" not in text
