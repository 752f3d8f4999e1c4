"""How large the object is that a compiled pipeline becomes in the cluster, and what fits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

from google.protobuf.json_format import MessageToDict  # type: ignore[import-untyped]

__all__ = ["LIMIT", "NEAR", "ROOM", "iterations_that_fit", "size_of", "workflow_bytes"]

LIMIT = 1 << 20
"""Bytes of a Workflow of Argo, its status in compressed form included: argo-workflows 3,
workflow/packer, MAX_WORKFLOW_SIZE. The API server of Kubernetes takes 1.5 MiB of any object, as
etcd does (--max-request-bytes), so that this limit cannot be raised by much."""

ROOM = int(0.9 * LIMIT)
"""Bytes for the workflow itself: the rest is for its status, which grows as it runs."""

NEAR = int(0.75 * LIMIT)
"""Bytes from which on it is worth a word."""

_AROUND = 12_000
"""Of what every Workflow of Kubeflow has: the templates of drivers, launcher and entry."""


def size_of(graph: Any) -> int:
    """As `workflow_bytes`, of a pipeline that kfp has built."""
    spec = MessageToDict(graph.pipeline_spec)
    return workflow_bytes(spec, MessageToDict(graph.platform_spec))


def iterations_that_fit(sizes: Sequence[tuple[int, int]]) -> int:
    """The most iterations whose workflow takes up no more than `ROOM`; about, and at least 1.

    With a gate each iteration stands inside the one before and is handed what all have in common,
    so that the size grows a little faster than the number: as a parabola, to within a percent.

    Args:
        sizes: Three numbers of iterations, each with its bytes.
    """
    (x0, y0), (x1, y1), (x2, y2) = sizes
    first, second = (y1 - y0) / (x1 - x0), (y2 - y1) / (x2 - x1)
    curve = (second - first) / (x2 - x0)
    number = 1
    while number < 10_000:
        step = number + 1
        if y0 + first * (step - x0) + curve * (step - x0) * (step - x1) > ROOM:
            break
        number = step
    return number


def workflow_bytes(spec: dict[str, Any], platform: dict[str, Any] | None) -> int:
    """About how many bytes the Workflow has that Kubeflow Pipelines makes of a compiled pipeline.

    As its compiler does it (kubeflow/pipelines 2.17, backend/src/v2/compiler/argocompiler): each
    graph and each distinct container stands as JSON in a parameter of the workflow, each task as
    JSON in the arguments of its driver, and the configuration for Kubernetes by component. So most
    of it is JSON within JSON, which escapes every quotation mark.

    Args:
        spec: The first document of the compiled YAML.
        platform: The second one.
    """
    components = {f"components-{name}": c for name, c in _graphs(spec).items()}
    executors = spec["deploymentSpec"]["executors"]
    for component in spec["components"].values():
        container = executors.get(component.get("executorLabel"), {}).get("container")
        if container is not None:
            digest = hashlib.sha256(_json(container).encode()).hexdigest()
            components[f"components-{digest}"] = component
            components[f"implementations-{digest}"] = container
    deployment = (
        (platform or {}).get("platforms", {}).get("kubernetes", {}).get("deploymentSpec", {})
    )
    for name, settings in deployment.get("executors", {}).items():
        components[f"kubernetes-{name.replace('exec-', 'comp-', 1)}"] = settings
    parameters = [{"name": name, "value": _json(value)} for name, value in components.items()]
    templates = [
        {"name": name, "dag": {"tasks": list(_tasks(spec, graph))}, "metadata": {}, "outputs": {}}
        for name, graph in _graphs(spec).items()
    ]
    return _AROUND + len(_json({"parameters": parameters, "templates": templates}))


def _graphs(spec: dict[str, Any]) -> dict[str, Any]:
    graphs = {name: c for name, c in spec["components"].items() if "dag" in c}
    return graphs | {"root": spec["root"]}


def _tasks(spec: dict[str, Any], graph: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The driver of each task, and what it drives."""
    for name, task in graph["dag"]["tasks"].items():
        component = task["componentRef"]["name"]
        has_container = "executorLabel" in spec["components"][component]
        digest = "0" * 64 if has_container else component
        asked = {
            "component": f"{{{{workflow.parameters.components-{digest}}}}}",
            "task": _json(task),
            "parent-dag-id": "{{inputs.parameters.parent-dag-id}}",
            "task-name": name,
        }
        results = ["execution-id", "condition"]
        if has_container:
            asked["container"] = f"{{{{workflow.parameters.implementations-{digest}}}}}"
            asked["kubernetes-config"] = f"{{{{workflow.parameters.kubernetes-{component}}}}}"
            results = ["pod-spec-patch", "cached-decision"]
        depends = " && ".join(f"{other}.Succeeded" for other in task.get("dependentTasks", ()))
        taken = {
            result: f"{{{{tasks.{name}-driver.outputs.parameters.{result}}}}}" for result in results
        }
        yield _task(f"{name}-driver", "system-container-driver", depends, asked)
        yield _task(name, "system-container-executor", f"{name}-driver.Succeeded", taken)


def _task(name: str, template: str, depends: str, arguments: dict[str, str]) -> dict[str, Any]:
    parameters = [{"name": key, "value": value} for key, value in arguments.items()]
    arguments_of = {"parameters": parameters}
    return {"name": name, "template": template, "depends": depends, "arguments": arguments_of}


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
