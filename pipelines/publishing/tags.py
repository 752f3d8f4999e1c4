"""Tags of a pipeline's version: what Kubeflow's UI and API find it by."""

from __future__ import annotations

from collections.abc import Sequence

import tspin
from tspin.errors import InputError
from tspin_pipelines.plan import Plan

__all__ = ["parse_tags", "tags_of"]

_MOST, _LONGEST = 20, 63
"""Tags of a version, and characters of a key or a value: Kubeflow 2.17,
backend/src/apiserver/model/pipeline_tags.go."""


def parse_tags(texts: Sequence[str]) -> dict[str, str]:
    """Tags as they stand on the command line.

    Args:
        texts: Each `KEY=VALUE`.

    Raises:
        InputError: not of that form, a key twice, or one that Kubeflow does not take.
    """
    tags: dict[str, str] = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator or not key or "." in key:
            raise InputError(f"--tag {text}: expected KEY=VALUE, with no '.' in KEY")
        if max(len(key), len(value)) > _LONGEST:
            raise InputError(f"--tag {text}: key and value may have {_LONGEST} characters each")
        if key in tags:
            raise InputError(f"--tag {text}: '{key}' is given twice")
        tags[key] = value
    return tags


def tags_of(plan: Plan, own: dict[str, str]) -> dict[str, str]:
    """What a version is found by, unless the command line says otherwise.

    Args:
        plan: What the pipeline is compiled from.
        own: Tags of the command line; they come over ours.

    Raises:
        InputError: more than Kubeflow takes.
    """
    ours = {
        "tspin": tspin.__version__,
        "method": plan.config.train.method,
        "images": plan.profile.images.tag,
        "overlay": plan.profile.overlay,
    }
    tags = {key: value for key, value in ours.items() if 0 < len(value) <= _LONGEST} | own
    if len(tags) > _MOST:
        raise InputError(
            f"{len(own)} tags and {len(tags) - len(own)} of our own are more than "
            f"the {_MOST} that Kubeflow takes"
        )
    return tags
