"""A champion as KServe takes it: LLMInferenceService (0.20), or InferenceService."""

from __future__ import annotations

from tspin.errors import InputError
from tspin_pipelines.serving import pod
from tspin_pipelines.serving.arguments import measured_arguments, quoted
from tspin_pipelines.serving.champion import Champion
from tspin_pipelines.serving.pod import Object
from tspin_pipelines.serving.server import server_pod
from tspin_pipelines.serving.serving import (
    Release,
    Serving,
    metadata,
    network_policy,
    pod_labels,
)
from tspin_pipelines.serving.source import Claim, Hub, Source, Stored, on_claim

__all__ = ["inference_service_documents", "llm_documents"]

_LLM_PORT, _PORT = 8000, 8080
_ADAPTERS, _MODEL = "/mnt/lora", "/mnt/models"
"""Where KServe puts adapters (workload_lora.go of 0.20) and models."""
_PASSED = {"AWS_REGION": "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL_S3": "AWS_ENDPOINT_URL"}
"""What this project's settings are called where KServe's storage initializer reads them."""


def llm_documents(serving: Serving) -> list[Object]:
    """An LLMInferenceService, which KServe fetches the model for, and its NetworkPolicy.

    With a canary there are two in one routing group, and the gateway shares by their weights.

    Raises:
        InputError: KServe fetches from no such place, or the two have other names in requests.
    """
    if serving.canary is None:
        services = [_llm(serving, serving.release, serving.name, None)]
    else:
        adapters = [one.champion.adapter is not None for one in (serving.release, serving.canary)]
        if len({*adapters}) == 2:
            raise InputError(
                "--canary: one of the two champions is an adapter and the other has weights of its "
                "own; KServe shares requests only among services of the same model names. Merge "
                "the adapter, or use --to vllm"
            )
        services = [
            _llm(serving, serving.release, serving.name, 100 - serving.share),
            _llm(serving, serving.canary, f"{serving.name}-canary", serving.share),
        ]
    return [*services, network_policy(serving, _LLM_PORT)]


def _llm(serving: Serving, release: Release, name: str, weight: int | None) -> Object:
    replicas = serving.replicas
    if release is serving.canary:
        # Not all of them for a few requests, and one at least.
        replicas = max(1, round(replicas * serving.share / 100))
    route = {} if weight is None else {"group": serving.name, "weight": weight}
    # The scheduler chooses among replicas, and does nothing for one.
    scheduler: Object = {"scheduler": {}} if replicas > 1 else {}
    return {
        "apiVersion": "serving.kserve.io/v1alpha2",
        "kind": "LLMInferenceService",
        "metadata": metadata(serving, release, name),
        "spec": {
            "model": _llm_model(serving, release),
            "replicas": replicas,
            "labels": pod_labels(serving, release),
            "annotations": {"tspin.io/model": release.champion.record.model},
            "router": {"route": route, "gateway": {}, **scheduler},
            "template": _llm_template(serving, release),
        },
    }


def _llm_model(serving: Serving, release: Release) -> Object:
    champion = release.champion
    if release.oci is not None:
        return {"uri": f"oci://{release.oci}", "name": serving.name}
    uri = _fetched(_champion_source(serving, champion))
    if champion.adapter is None or release.base is None:
        return {"uri": uri, "name": serving.name}
    return {
        "uri": _fetched(release.base),
        "name": f"{serving.name}-base",
        "lora": {
            "adapters": [{"name": serving.name, "uri": uri}],
            "maxRank": champion.adapter.rank,
        },
    }


def _llm_template(serving: Serving, release: Release) -> Object:
    """What is laid over KServe's preset, whose command, probes and mounts stay.

    Its preset leaves the root file system writable, for a hook of NVIDIA's that writes there.
    """
    profile, stage, champion = serving.profile, serving.stage, release.champion
    folder = _MODEL if champion.adapter is None else f"{_ADAPTERS}/{serving.name}"
    security = {k: v for k, v in pod.CONTAINER.items() if k != "readOnlyRootFilesystem"}
    environment = pod.environment(profile, stage, plain=False)
    passed = [
        {**one, "name": _PASSED[one["name"]]} for one in environment if one["name"] in _PASSED
    ]
    certificates = [v for v in pod.volumes(profile) if v["name"] == "certificates"]
    trusted = [m for m in pod.mounts(profile, stage) if m["name"] == "certificates"]
    mounted = {"volumeMounts": trusted} if trusted else {}
    # An image is pulled by the node: KServe adds no such container, and ours alone would be none.
    fetches = {"name": "storage-initializer", "env": [*environment, *passed], **mounted}
    return {
        **pod.identity(profile),
        **pod.nodes(stage),
        **({"initContainers": [fetches]} if release.oci is None else {}),
        "containers": [
            {
                "name": "main",
                "image": serving.image,
                "imagePullPolicy": profile.images.pull_policy,
                "args": quoted(measured_arguments(champion, serving.settings, folder)),
                "env": [{"name": "VLLM_NO_USAGE_STATS", "value": "1"}],
                "resources": stage.resources,
                "securityContext": security,
            }
        ],
        "volumes": [pod.shared_memory("dshm", stage), *certificates],
    }


def _champion_source(serving: Serving, champion: Champion) -> Source:
    if "://" in champion.registry:
        return Stored(champion.uri)
    claim = on_claim(champion.uri, serving.stage.volumes)
    if claim is None:
        raise InputError(
            f"{champion.registry}: a folder that no pod sees: no volume of the profile's stage "
            "'generate' holds it. Promote into s3://, or into a folder on such a volume"
        )
    return claim


def _fetched(source: Source) -> str:
    """A URI that KServe's LLMInferenceService takes, for models and for adapters."""
    if isinstance(source, Hub) and "/" not in source.name:
        raise InputError(f"{source.uri}: KServe takes names of the Hub with their owner only")
    if isinstance(source, Stored) and not source.uri.startswith("s3://"):
        raise InputError(
            f"{source.uri}: KServe's LLMInferenceService fetches from s3://, hf:// and pvc:// "
            "only; use --to inferenceservice or --to vllm, whose pods fetch by themselves"
        )
    return source.uri


def inference_service_documents(serving: Serving) -> list[Object]:
    """An InferenceService of a custom predictor: the same pod as `--to vllm` has, behind KServe.

    Raises:
        InputError: KServe knows no such place, or a pod would not reach the model.
    """
    spec: Object = {"predictor": _predictor(serving, serving.release, serving.replicas)}
    spec["predictor"]["maxReplicas"] = serving.replicas
    if serving.canary is not None:
        predictor = {"name": "canary", **_predictor(serving, serving.canary, 1)}
        spec["canary"] = [{"predictor": predictor, "trafficPercent": serving.share}]
    described = metadata(serving, serving.release, serving.name)
    described["annotations"]["serving.kserve.io/deploymentMode"] = "Standard"
    service = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": described,
        "spec": spec,
    }
    return [service, network_policy(serving, _PORT)]


def _predictor(serving: Serving, release: Release, replicas: int) -> Object:
    # KServe adds no storage initializer where a container has its name already
    # (storage_initializer_injector.go of 0.20, CommonStorageInitialization). So the model is
    # fetched once, from any store, with this project's settings, and checked file by file.
    spec = server_pod(
        serving, release, port=_PORT, container="kserve-container", fetcher="storage-initializer"
    )
    if serving.canary is not None:
        # It wants to know that both have a model (inference_service_validation.go).
        uri = _known(_champion_source(serving, release.champion))
        spec["containers"][0]["env"].append({"name": "STORAGE_URI", "value": uri})
    return {
        "labels": pod_labels(serving, release),
        "annotations": {"tspin.io/model": release.champion.record.model},
        "minReplicas": replicas,
        **spec,
    }


def _known(source: Source) -> str:
    if not isinstance(source, Claim) and not source.uri.startswith(("s3://", "gs://")):
        raise InputError(
            f"{source.uri}: with --canary KServe wants a place that it knows: s3:// or gs://"
        )
    return source.uri
