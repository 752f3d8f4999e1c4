"""A project of `tspin init --kubeflow` whose profile has been filled in."""

from __future__ import annotations

from pathlib import Path

__all__ = ["fill_in"]


def fill_in(profile: Path, manifests: str, *, namespace: str = "tspin") -> None:
    """Put names into a profile where `tspin init` could not know them.

    Args:
        profile: The file.
        manifests: A repository's URL, or the folder of a checkout.
        namespace: Of the project.
    """
    text = profile.read_text()
    for placeholder, name in (
        ("https://github.com/OWNER/tspin", manifests),
        ("s3://BUCKET/", "s3://team/"),
        ("gs://BUCKET/", "gs://team/"),
        ("namespace: tspin", f"namespace: {namespace}"),
        ("registry: registry.example.com/", "registry: registry.test:5000/"),
        ("registry: registry.example.internal/", "registry: registry.test:5000/"),
        ("https://s3.example.com", "https://s3.test"),
    ):
        text = text.replace(placeholder, name)
    profile.write_text(text)
