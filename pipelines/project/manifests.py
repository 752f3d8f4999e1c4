"""A project's manifests: the overlay of its profile, with what the profile says of the project."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

import tspin
from tspin.errors import InputError
from tspin.files import atomic_file
from tspin.mirrors.address import Address
from tspin.outputs import begins_with, check_output
from tspin_pipelines.profiles.profile import Profile, load_profile, profile_names
from tspin_pipelines.profiles.project import Project

__all__ = ["image_parts", "kustomization", "load_project", "sync_manifests"]

_HEADER = """\
# Written by `tspin pipeline manifests` from ../{profile}, and written anew by it.
# Patches of your own stand in ../kustomization.yaml.
"""
_NAMESPACE = "tspin"
"""Of every overlay."""
_ANYWHERE = [
    {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}},
    {"ipBlock": {"cidr": "::/0", "except": ["fe80::/10", "fd00:ec2::/32"]}},
]
"""But for the node's metadata address, as in k8s/base/network-policies.yaml."""
_PLACEHOLDER = re.compile(r"\b(OWNER|BUCKET)\b|\bexample\.(com|internal)\b")


def load_project(path: Path) -> tuple[Profile, Project]:
    """A profile with the section `project`, all of it filled in.

    Raises:
        InputError: as `load_profile`; or the section is missing, or holds what `tspin init` put in
            the place of names that it cannot know.
    """
    profile = load_profile(str(path))
    project = profile.project
    if project is None:
        raise InputError(
            f"{path}: has no section 'project'; `tspin init DIR --kubeflow NAME` writes one"
        )
    values = {
        "images.registry": profile.images.registry,
        "project.manifests": project.manifests,
        "project.registry": project.registry,
        "project.artifacts": project.artifacts,
    }
    values |= {f"project.settings.{name}": value for name, value in project.settings.items()}
    gaps = [f"{name} ({value})" for name, value in values.items() if _PLACEHOLDER.search(value)]
    if gaps:
        raise InputError(f"{path}: put in names of your own for {', '.join(gaps)}")
    return profile, project


def sync_manifests(path: Path, *, check: bool = False) -> Path | None:
    """Write `overlay/kustomization.yaml` beside a project's profile.

    Args:
        path: The profile.
        check: Change nothing; fail where something would change.

    Returns:
        The file; None where it was up to date.

    Raises:
        InputError: as `load_project`; no such manifests; the file is not ours; or with `check`, it
            was not written for this profile and this version of tspin.
    """
    profile, project = load_project(path)
    out = path.parent / "overlay/kustomization.yaml"
    text = kustomization(path, profile, project)
    if out.is_file() and out.read_text(encoding="utf-8") == text:
        return None
    if check:
        raise InputError(
            f"{out}: was not written for this {path.name} and tspin {tspin.__version__}; run: "
            f"tspin pipeline manifests --profile {path}"
        )
    check_output(out, begins_with(_HEADER.partition("{")[0]), inputs=[path])
    with atomic_file(out) as file:
        file.write(text.encode())
    return out


def kustomization(path: Path, profile: Profile, project: Project) -> str:
    """A layer on the overlay in its released version: images, namespace, the store's settings.

    Args:
        path: Of the profile; the layer stands in `overlay/` beside it.
        profile: What is said there.
        project: Its section.

    Raises:
        InputError: `project.manifests` is a folder without this overlay.
    """
    content: dict[str, Any] = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [_base(path, profile.overlay, project.manifests)],
        "images": _images(profile),
    }
    if project.settings:
        content["configMapGenerator"] = [
            {
                "name": "tspin-s3",
                "namespace": _NAMESPACE,
                "behavior": "merge",
                "literals": [f"{name}={value}" for name, value in project.settings.items()],
            }
        ]
        content["generatorOptions"] = {"disableNameSuffixHash": True}
    patches = [*_namespace(profile), *_artifacts(profile, project), *_region(profile, project)]
    if patches := [*patches, *_ways_out(profile, project)]:
        content["patches"] = patches
    text = yaml.safe_dump(content, sort_keys=False, width=1000)
    return _HEADER.format(profile=path.name) + text


def _base(path: Path, overlay: str, manifests: str) -> str:
    if "://" in manifests or manifests.startswith("git@"):
        return f"{manifests}//k8s/overlays/{overlay}?ref=v{tspin.__version__}"
    folder = path.parent / manifests / "k8s/overlays" / overlay
    if not (folder / "kustomization.yaml").is_file():
        raise InputError(
            f"{path}: project.manifests is {manifests!r}, but there is no {folder}; expected the "
            "URL of tspin's git repository, or the folder of a checkout"
        )
    # Kustomize takes no absolute path for a base (api/internal/loader/fileloader.go).
    return os.path.relpath(folder.resolve(), (path.parent / "overlay").resolve())


def _images(profile: Profile) -> list[dict[str, str]]:
    """The images of Jobs and nodes, in the place of what the overlay has for them.

    An overlay has the image that the shipped profiles of its name have: tests/k8s holds them
    together.
    """
    images = {}
    for shipped in map(load_profile, profile_names()):
        if shipped.overlay == profile.overlay:
            for stage in ("train", "light"):
                old = image_parts(shipped.image(getattr(shipped.stages, stage)))[0]
                images[old] = image_parts(profile.image(getattr(profile.stages, stage)))
    return [{"name": old, "newName": name, **tag} for old, (name, tag) in sorted(images.items())]


def image_parts(image: str) -> tuple[str, dict[str, str]]:
    """An image's name, and its tag or digest under the key that kustomize has for it."""
    name, at, digest = image.partition("@")
    if at:
        return name, {"digest": digest}
    name, _, tag = image.rpartition(":")
    return name, {"newTag": tag}


def _namespace(profile: Profile) -> list[dict[str, Any]]:
    """Another namespace than the overlay's.

    Not kustomize's own `namespace:`. It would put a namespace on cluster-wide objects of kinds that
    it does not know, such as Kueue's, and leave the subjects of role bindings as they are.
    """
    name = profile.namespace
    if name == _NAMESPACE:
        return []
    label = "/spec/namespaceSelector/matchLabels/kubernetes.io~1metadata.name"
    return [
        _patch({"namespace": _NAMESPACE}, "/metadata/namespace", name),
        _patch({"kind": "Namespace", "name": _NAMESPACE}, "/metadata/name", name),
        _patch({"kind": "RoleBinding"}, "/subjects/0/namespace", name),
        _patch({"kind": "ClusterQueue"}, label, name),
        # In no namespace: two on one cluster need two names.
        _patch({"kind": "ClusterQueue"}, "/metadata/name", name),
        _patch({"kind": "LocalQueue"}, "/spec/clusterQueue", name),
    ]


def _artifacts(profile: Profile, project: Project) -> list[dict[str, Any]]:
    """Kubeflow's own store on a laptop, a bucket elsewhere."""
    if profile.overlay == "kind-cpu":
        return []
    root = {"kind": "ConfigMap", "name": "kfp-launcher"}
    return [_patch(root, "/data/defaultPipelineRoot", project.artifacts)]


def _region(profile: Profile, project: Project) -> list[dict[str, Any]]:
    """Amazon's store of secrets is in the region of the buckets."""
    region = project.settings.get("AWS_REGION")
    if profile.overlay != "eks" or region is None:
        return []
    return [_patch({"kind": "SecretStore"}, "/spec/provider/aws/region", region)]


def _ways_out(profile: Profile, project: Project) -> list[dict[str, Any]]:
    """To the tracking server, and to the registries that show the champion, too."""
    servers = {
        "allow-mlflow": [] if project.mlflow is None else [project.mlflow],
        "allow-mirrors": [Address.of(text).url for text in profile.mirrors.addresses],
    }
    return [
        _patch({"kind": "NetworkPolicy", "name": policy}, "/spec/egress", _egress(addresses))
        for policy, addresses in servers.items()
        if addresses
    ]


def _egress(addresses: list[str]) -> list[dict[str, Any]]:
    """Rules for some servers, each rule once.

    Inside the cluster the way is open on all ports of a server's namespace: a policy counts the
    port of the pod, and the address has that of its Service.
    """
    rules: list[dict[str, Any]] = []
    for address in map(urlsplit, addresses):
        parts = (address.hostname or "").split(".")
        if parts[2:3] == ["svc"]:
            namespace = {"matchLabels": {"kubernetes.io/metadata.name": parts[1]}}
            rule: dict[str, Any] = {"to": [{"namespaceSelector": namespace}]}
        else:
            port = address.port or (443 if address.scheme == "https" else 80)
            rule = {"to": _ANYWHERE, "ports": [{"protocol": "TCP", "port": port}]}
        if rule not in rules:
            rules.append(rule)
    return rules


def _patch(target: dict[str, str], path: str, value: Any) -> dict[str, Any]:
    operation = [{"op": "replace", "path": path, "value": value}]
    patch = {"target": target, "patch": yaml.safe_dump(operation, sort_keys=False)}
    return patch | ({"options": {"allowNameChange": True}} if path == "/metadata/name" else {})
