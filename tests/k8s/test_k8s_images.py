"""An overlay's image by digest, as docs/guides/images.md says."""

from __future__ import annotations

import os
from pathlib import Path

import yaml
from rendered import K8S, pod_templates, render

DIGEST = f"sha256:{'ab' * 32}"


def test_an_overlay_takes_the_digests_of_its_images(tmp_path: Path) -> None:
    overlay = yaml.safe_load((K8S / "overlays/eks/kustomization.yaml").read_text())
    images = {image["newName"] for image in overlay["images"]}
    assert len(images) == 2
    file = tmp_path / "kustomization.yaml"
    changed = [{"name": image, "digest": DIGEST} for image in images]
    base = os.path.relpath(K8S / "overlays/eks", tmp_path)
    file.write_text(yaml.safe_dump({"resources": [base], "images": changed}))
    templates = list(pod_templates(render(os.path.relpath(tmp_path, K8S))))
    names = {pod["spec"]["containers"][0]["image"] for _, pod in templates}
    assert names == {f"{image}@{DIGEST}" for image in images}
