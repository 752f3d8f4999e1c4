"""A project's profile says a setting once; manifests and CI's environment are made from it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

import tspin
from tests.kubeflow_project import fill_in
from tspin.cli.main import app
from tspin.errors import InputError
from tspin_pipelines.profiles.profile import load_profile, profile_names
from tspin_pipelines.project.manifests import image_parts, sync_manifests
from tspin_pipelines.project.starter import add_kubeflow

REPOSITORY = "https://git.test/team/tspin"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    add_kubeflow(tmp_path, "eks-l4-spot")
    fill_in(tmp_path / "kubeflow/profile.yaml", REPOSITORY, namespace="team")
    return tmp_path / "kubeflow"


def _change(profile: Path, old: str, new: str) -> None:
    text = profile.read_text()
    assert text.count(old) == 1
    profile.write_text(text.replace(old, new))


def _layer(project: Path) -> dict[str, object]:
    layer = yaml.safe_load((project / "overlay/kustomization.yaml").read_text())
    assert isinstance(layer, dict)
    return layer


def _tspin(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments)
    if result.exception is not None:
        raise result.exception
    return result.stdout


@pytest.mark.parametrize("name", profile_names())
def test_a_new_project_asks_for_the_names_that_nobody_can_know(name: str, tmp_path: Path) -> None:
    add_kubeflow(tmp_path, name)
    profile = tmp_path / "kubeflow/profile.yaml"
    assert load_profile(str(profile)).model_copy(update={"project": None}) == load_profile(name)
    with pytest.raises(InputError, match=r"OWNER.*BUCKET"):
        sync_manifests(profile)
    fill_in(profile, REPOSITORY)
    assert sync_manifests(profile) == tmp_path / "kubeflow/overlay/kustomization.yaml"


def test_the_overlay_is_taken_in_the_version_of_the_package(project: Path) -> None:
    sync_manifests(project / "profile.yaml")
    base = f"{REPOSITORY}//k8s/overlays/eks?ref=v{tspin.__version__}"
    assert _layer(project)["resources"] == [base]


def test_the_image_is_the_profiles(project: Path) -> None:
    sync_manifests(project / "profile.yaml")
    assert _layer(project)["images"] == [
        {
            "name": f"registry.example.com/tspin/{role}",
            "newName": f"registry.test:5000/tspin/{role}",
            "newTag": load_profile(str(project / "profile.yaml")).images.tag,
        }
        for role in ("cpu", "train")
    ]
    digest = f"sha256:{'ab' * 32}"
    assert image_parts(f"registry.test:5000/a@{digest}") == (
        "registry.test:5000/a",
        {"digest": digest},
    )


def test_a_change_of_the_profile_is_noticed_and_taken_over(project: Path) -> None:
    profile = project / "profile.yaml"
    sync_manifests(profile)
    assert sync_manifests(profile, check=True) is None
    _change(profile, "AWS_REGION: us-east-1", "AWS_REGION: eu-north-1")
    with pytest.raises(InputError, match=f"run: tspin pipeline manifests --profile {profile}"):
        sync_manifests(profile, check=True)
    sync_manifests(profile)
    assert "AWS_REGION=eu-north-1" in str(_layer(project)["configMapGenerator"])


def test_a_kustomization_of_ones_own_is_not_replaced(project: Path) -> None:
    own = project / "overlay/kustomization.yaml"
    own.write_text("resources: []\n")
    with pytest.raises(InputError, match="nothing says that tspin made it"):
        sync_manifests(project / "profile.yaml")
    assert own.read_text() == "resources: []\n"


def test_ci_gets_what_the_profile_says(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.parent)
    assert _tspin("pipeline", "environment").splitlines() == [
        "RETRAIN_MODE=kubeflow",
        "RETRAIN_REGISTRY=s3://team/registry",
        "RETRAIN_PROFILE=kubeflow/profile.yaml",
        "AWS_REGION=us-east-1",
    ]


def test_pods_reach_the_mirrors_that_the_profile_names(project: Path) -> None:
    inside = "model-registry=http://mr.kubeflow.svc.cluster.local:8080"
    mirrors = f"[{inside}, 'mlflow=https://mlflow.test', 'model-registry=https://mr.test']"
    _change(
        project / "profile.yaml", "\nproject:", f"\nmirrors: {{addresses: {mirrors}}}\nproject:"
    )
    sync_manifests(project / "profile.yaml")
    patches = _layer(project)["patches"]
    assert isinstance(patches, list)
    (patch,) = [p["patch"] for p in patches if p["target"].get("name") == "allow-mirrors"]
    (operation,) = yaml.safe_load(patch)
    cluster, world = operation["value"]
    labels = {"kubernetes.io/metadata.name": "kubeflow"}
    assert cluster == {"to": [{"namespaceSelector": {"matchLabels": labels}}]}
    assert world["ports"] == [{"protocol": "TCP", "port": 443}]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("manifests: https", "manifest: https", "did you mean 'manifests'"),
        ("AWS_REGION: us-east-1", "AWS_PROFILE: me", "AWS_PROFILE, which stages.generate"),
        ("registry: s3://team/registry", "registry: a b", "'project.registry' is 'a b'"),
        ("AWS_REGION: us-east-1", 'AWS_REGION: "a\\nPATH=b"', "'project.settings.AWS_REGION' is"),
        (REPOSITORY, "../tspin", "there is no .*k8s/overlays/eks"),
        ("\nproject:", "\nmirrors: {addresses: [mr.test]}\nproject:", "expected model-registry="),
    ],
)
def test_what_a_profile_cannot_say(project: Path, old: str, new: str, message: str) -> None:
    _change(project / "profile.yaml", old, new)
    with pytest.raises(InputError, match=message):
        sync_manifests(project / "profile.yaml")
    assert "OWNER" in (project / "overlay/kustomization.yaml").read_text()


def test_a_profile_that_belongs_to_no_project_is_told_apart(tmp_path: Path) -> None:
    profile = tmp_path / "cpu.yaml"
    _tspin("pipeline", "profiles", "copy", "cpu", str(profile))
    with pytest.raises(InputError, match="no section 'project'"):
        sync_manifests(profile)


def test_another_project_begins_with_the_profile_of_the_first(project: Path) -> None:
    second = project / "second"
    add_kubeflow(second, str(project / "profile.yaml"))
    assert (second / "kubeflow/profile.yaml").read_bytes() == (
        project / "profile.yaml"
    ).read_bytes()


def test_init_makes_all_of_it_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="did you mean 'gke-h100'"):
        _tspin("init", "a", "--kubeflow", "gke-a100")
    assert not list(tmp_path.iterdir())
    assert "kubeflow/README.md" in _tspin("init", "a", "--kubeflow", "gke-h100")
    names = {path.relative_to(tmp_path / "a").as_posix() for path in tmp_path.rglob("*.y*ml")}
    assert names >= {
        "params.yaml",
        "dvc.yaml",
        "kubeflow/profile.yaml",
        "kubeflow/kustomization.yaml",
        "kubeflow/overlay/kustomization.yaml",
        ".github/workflows/retrain.yml",
    }
    assert "the overlay `gke`" in (tmp_path / "a/kubeflow/kustomization.yaml").read_text().lower()
