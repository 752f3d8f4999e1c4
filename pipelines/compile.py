"""Compiles a pipeline for a profile into one YAML file: Kubeflow's own, or objects of a cluster."""

from __future__ import annotations

import dataclasses
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import yaml
from kfp import compiler
from kfp.compiler.compiler_utils import KubernetesManifestOptions

from tspin.errors import InputError
from tspin.files import atomic_file, sha256_file
from tspin.outputs import Recognition, begins_with
from tspin.store import check_scheme
from tspin_pipelines.graph.graphs import GRAPHS
from tspin_pipelines.object_size import NEAR, iterations_that_fit, size_of
from tspin_pipelines.plan import Plan
from tspin_pipelines.publishing.tags import parse_tags, tags_of

__all__ = ["PIPELINES", "Form", "compile_pipeline", "compiled_pipeline"]

log = logging.getLogger(__name__)

PIPELINES: tuple[str, ...] = tuple(GRAPHS)
Form = Literal["pipeline", "crd"]
_API = "pipelines.kubeflow.org/v2beta1"


def compiled_pipeline(name: str, form: Form = "pipeline") -> Recognition:
    """How the YAML file of a pipeline or component is known: kfp puts its name at the top."""
    shown = f"tspin-{name}" if name in PIPELINES else name.replace("_", "-")
    if form == "crd":
        return begins_with(f"apiVersion: {_API}\nkind: Pipeline\nmetadata:\n  name: {shown}\n")
    return begins_with(f"# PIPELINE DEFINITION\n# Name: {shown}\n")


def compile_pipeline(
    name: str, plan: Plan, out: Path, form: Form = "pipeline", *, tags: Sequence[str] = ()
) -> None:
    """Write the pipeline `name` to `out`, whole or not at all.

    Args:
        name: One of `PIPELINES`.
        plan: What it is compiled from.
        out: The YAML file, two documents.
        form: "pipeline" for Kubeflow's API and UI: pipeline spec and platform spec. "crd" for
            `kubectl apply` and what watches a repository: a Pipeline and a PipelineVersion, named
            by its content, since a version never changes.
        tags: Of the version, each `KEY=VALUE`; only with "crd".

    Raises:
        InputError: no such pipeline, or a plan that it cannot follow.
    """
    if form not in get_args(Form):
        raise InputError(f"--format is {form!r}; expected one of: {', '.join(get_args(Form))}")
    if tags and form != "crd":
        raise InputError("--tag needs --format crd: a file for upload has no place for tags")
    own = parse_tags(tags)
    if name not in PIPELINES:
        raise InputError(f"unknown pipeline '{name}'; there are {', '.join(PIPELINES)}")
    _refuse(name, plan)
    graph = GRAPHS[name](plan)
    _warn_of_size(plan, size_of(graph))
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(graph, str(temporary))
        if form == "crd":
            options = _objects(name, plan, temporary)
            compiler.Compiler().compile(
                graph,
                str(temporary),
                kubernetes_manifest_options=options,
                kubernetes_manifest_format=True,
            )
            _tag(temporary, tags_of(plan, own))
        with atomic_file(out) as file:
            file.write(temporary.read_bytes())


def _objects(name: str, plan: Plan, compiled: Path) -> KubernetesManifestOptions:
    return KubernetesManifestOptions(
        pipeline_name=f"tspin-{name}",
        pipeline_version_name=f"tspin-{name}-{sha256_file(compiled)[:12]}",
        pipeline_version_display_name=f"tspin-{name} {plan.profile.images.tag}",
        namespace=plan.profile.namespace,
        include_pipeline_manifest=True,
    )


def _tag(objects: Path, tags: dict[str, str]) -> None:
    """Put tags into the version, for which kfp's compiler has no option."""
    pipeline, version = yaml.load_all(objects.read_bytes(), Loader=yaml.CSafeLoader)
    version["spec"]["tags"] = tags
    objects.write_text(yaml.dump_all([pipeline, version], Dumper=yaml.CSafeDumper))


def _warn_of_size(plan: Plan, size: int) -> None:
    """A cluster refuses a workflow that is too large, or loses it on the way."""
    iterations = plan.config.iterations
    if size < NEAR or iterations < 3:
        return
    sizes = [(number, _size_with(plan, number)) for number in (1, iterations // 2 + 1)]
    fit = iterations_that_fit([*sizes, (iterations, size)])
    log.warning(
        "%d iterations make a workflow of about %.2f MB; Argo takes 1.05 MB (1 MiB) with its "
        "status, Kubernetes 1.57 MB: about %d iterations fit. More of them in parts: a run with "
        "fewer iterations, then --pipeline iteration with --model and --iteration",
        iterations,
        size / 1e6,
        fit,
    )


def _size_with(plan: Plan, iterations: int) -> int:
    config = plan.config.model_copy(update={"iterations": iterations})
    return size_of(GRAPHS["run"](dataclasses.replace(plan, config=config)))


def _warn_of_conditions(plan: Plan) -> None:
    """The probe at the start of the run decides; this only says so before it is submitted."""
    if plan.profile.overlay == "gke":
        log.warning(
            "registry is %r, and the overlay gke reaches Cloud Storage as S3, which ignores "
            "conditions on writing: the run will refuse it there; use gs://bucket/prefix",
            plan.registry,
        )


def _refuse(name: str, plan: Plan) -> None:
    if plan.shards < 1:
        raise InputError(f"shards is {plan.shards}; expected 1 or more")
    if plan.iteration < 0:
        raise InputError(f"iteration is {plan.iteration}; expected 0 or more")
    if name == "run" and plan.model is not None:
        raise InputError(
            f"model is {plan.model!r}; pipeline 'run' begins with model.path of the configuration"
        )
    if name == "run" and plan.iteration != 0:
        raise InputError(f"iteration is {plan.iteration}; pipeline 'run' plays all of them")
    if name == "iteration" and plan.config.train.history_at(plan.iteration)[1:]:
        raise InputError(
            f"iteration is {plan.iteration} and train.method 'tspin_all': its triplets need the "
            "responses of all policies before, which only pipeline 'run' hands on; take that, "
            "iteration 0 or 1, or method 'tspin'"
        )
    if name == "evaluate" and plan.config.data.heldout is None:
        raise InputError("data.heldout is not set; pipeline 'evaluate' measures on it")
    if name == "evaluate" and plan.registry is not None:
        raise InputError(f"registry is {plan.registry!r}; pipeline 'evaluate' promotes no model")
    if plan.registry is not None and check_scheme(plan.registry) == "s3":
        _warn_of_conditions(plan)
    if plan.registry is not None and not plan.measures:
        raise InputError(f"registry is {plan.registry!r}; promotion needs data.heldout")
