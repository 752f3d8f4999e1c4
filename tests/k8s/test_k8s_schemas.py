"""Each rendered document, strictly: Kubernetes' own kinds by its schema, custom ones by ours."""

import copy
from functools import cache

import kubernetes_validate
import pytest
from custom import SCHEMAS, WHOLE, Metadata
from pydantic import ValidationError
from rendered import OVERLAYS, Document, named, overlay, pod_templates

VERSIONS = ("1.32", kubernetes_validate.latest_version())
"""The oldest that the manifests are for, and the newest known."""

CUSTOM = {"aks": (13, 2), "eks": (22, 2), "gke": (18, 2), "kind-cpu": (0, 0), "onprem": (13, 2)}
"""Custom resources of each overlay: those whose `spec` has a schema, and those described whole."""


def problems(document: Document, version: str) -> str:
    """What the strict schema says against a document, or nothing."""
    try:
        kubernetes_validate.validate(document, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return f"{'.'.join(map(str, error.path))}: {error.message}"
    return ""


@cache
def checked(text: str, version: str) -> str:
    """As `problems`; overlays share most of their documents, and a check takes long."""
    return problems(DOCUMENTS[text], version)


DOCUMENTS: dict[str, Document] = {}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", OVERLAYS)
def test_kubernetes_own_kinds(name: str, version: str) -> None:
    own = [d for d in overlay(name) if (d["apiVersion"], d["kind"]) not in SCHEMAS | WHOLE]
    assert len(own) > 15
    for document in own:
        DOCUMENTS[repr(document)] = document
        assert checked(repr(document), version) == "", document["metadata"]["name"]


@pytest.mark.parametrize("name", OVERLAYS)
def test_custom_resources(name: str) -> None:
    kinds = [(document["apiVersion"], document["kind"]) for document in overlay(name)]
    counts = sum(kind in SCHEMAS for kind in kinds), sum(kind in WHOLE for kind in kinds)
    assert counts == CUSTOM[name]
    for document, kind in zip(overlay(name), kinds, strict=True):
        if kind in WHOLE:
            WHOLE[kind].model_validate(document)
        schema = SCHEMAS.get(kind)
        if schema is not None:
            assert set(document) == {"apiVersion", "kind", "metadata", "spec"}
            Metadata.model_validate(document["metadata"])
            schema.model_validate(document["spec"])


@pytest.mark.parametrize("name", [name for name in OVERLAYS if name != "kind-cpu"])
def test_pods_inside_custom_resources(name: str) -> None:
    ((_, template),) = [t for t in pod_templates(overlay(name)) if "TrainingRuntime" in t[0]]
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "node"},
        "spec": {"template": template},
    }
    assert problems(job, VERSIONS[-1]) == ""


def test_a_misspelt_field_is_found() -> None:
    job = copy.deepcopy(named(overlay("eks"), "Job", "tspin-run"))
    job["spec"]["template"]["spec"]["nodeSelektor"] = {}
    assert "nodeSelektor" in problems(job, VERSIONS[-1])
    pool = copy.deepcopy(named(overlay("eks"), "NodePool", "tspin-train-spot"))
    pool["spec"]["template"]["spec"]["taint"] = []
    with pytest.raises(ValidationError, match="taint"):
        SCHEMAS[pool["apiVersion"], pool["kind"]].model_validate(pool["spec"])
