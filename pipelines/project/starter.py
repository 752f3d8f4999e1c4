"""What a project on Kubeflow starts with: profile, manifests, and the workflow that retrains."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from textwrap import indent

import yaml

import tspin
from tspin.config import load_yaml
from tspin_pipelines.profiles.profile import Profile, load_profile, profile_path
from tspin_pipelines.project.manifests import kustomization

__all__ = ["STORES", "add_kubeflow"]

_CLOUD_STORAGE = {
    "AWS_REGION": "auto",
    "AWS_ENDPOINT_URL_S3": "https://storage.googleapis.com",
    "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
    "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
}
_OTHER = {"AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL_S3": "https://s3.example.com"}
STORES: dict[str, dict[str, str]] = {
    "eks": {"AWS_REGION": "us-east-1"},
    "gke": _CLOUD_STORAGE,
    "aks": _OTHER,
    "onprem": _OTHER,
    "kind-cpu": {"AWS_REGION": "us-east-1"},
}
"""By overlay, what a project's `project.settings` begins with; tests/k8s compares the names."""

_FILES = {
    "README.md": "kubeflow/README.md",
    "kustomization.yaml": "kubeflow/kustomization.yaml",
    "retrain.yml": ".github/workflows/retrain.yml",
    "retrain-outcome.yml": ".github/workflows/retrain-outcome.yml",
}
"""Template to file of the project."""


def add_kubeflow(folder: Path, name: str) -> None:
    """Write what a project needs besides `tspin run` into its folder.

    Args:
        folder: Of the project.
        name: Of a shipped profile, or the path of one.

    Raises:
        InputError: there is no such profile, or what it says is wrong.
    """
    profile = load_profile(name)
    template = files("tspin_pipelines.project") / "template"
    texts = {
        "kubeflow/profile.yaml": _profile_text(name, profile, template),
        "kubeflow/requirements.txt": f"tspin[pipelines]=={tspin.__version__}\n",
    }
    for source, target in _FILES.items():
        text = (template / source).read_text(encoding="utf-8")
        texts[target] = text.replace("OVERLAY", profile.overlay)
    for target, text in texts.items():
        _write(folder / target, text)
    path = folder / "kubeflow/profile.yaml"
    own = load_yaml(Profile, path)
    if own.project is not None:
        text = kustomization(path, own, own.project)
        _write(folder / "kubeflow/overlay/kustomization.yaml", text)


def _profile_text(name: str, profile: Profile, template: Traversable) -> str:
    """The profile as it stands, below what a project adds to it."""
    text = profile_path(name).read_text(encoding="utf-8")
    if profile.project is not None:
        return text
    settings = yaml.safe_dump(STORES[profile.overlay], sort_keys=False)
    head = (template / "profile.yaml").read_text(encoding="utf-8")
    if "namespace" in profile.model_fields_set:
        head = head.replace("namespace: tspin\n", "")
    head = head.replace("SCHEME", "gs" if profile.overlay == "gke" else "s3")
    return head.replace("    SETTINGS\n", indent(settings, "    ")) + text


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
