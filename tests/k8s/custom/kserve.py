"""KServe 0.20: serving.kserve.io/v1alpha2 and v1beta1."""

# ruff: noqa: N815

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from custom.common import Labels, Name
from tspin.config.strict import Strict

ModelUri = Annotated[str, Field(pattern=r"^(s3://|hf://[^/]+/[^/]+$|pvc://)")]
"""What the storage initializer of an LLMInferenceService takes, for adapters too."""


BaseUri = ModelUri | Annotated[str, Field(pattern=r"^oci://[^@]+@sha256:[0-9a-f]{64}$")]
"""And what it takes for a model that is no adapter (workload_storage.go, workload_lora.go)."""


class LoraAdapter(Strict):
    name: str
    uri: ModelUri


class Lora(Strict):
    adapters: list[LoraAdapter]
    maxRank: int = Field(ge=1)


class LlmModel(Strict):
    uri: BaseUri
    name: str
    lora: Lora | None = None

    @model_validator(mode="after")
    def _names_differ(self) -> LlmModel:
        names = [one.name for one in self.lora.adapters] if self.lora else []
        if self.name in names:
            raise ValueError("an adapter must have another name than the base")
        return self


class Nothing(Strict):
    """An empty object, which asks for the default."""


class Route(Strict):
    group: Name | None = None
    weight: int | None = Field(None, ge=0, le=1_000_000)

    @model_validator(mode="after")
    def _both(self) -> Route:
        if (self.group is None) != (self.weight is None):
            raise ValueError("group and weight need each other")
        return self


class Router(Strict):
    route: Route
    gateway: Nothing
    scheduler: Nothing | None = None


class LLMInferenceServiceSpec(Strict):
    model: LlmModel
    replicas: int = Field(ge=0)
    labels: Labels
    annotations: Labels
    router: Router
    template: dict[str, Any]
    """A pod's spec, as far as it differs from the preset's."""


class Predictor(Strict):
    """A custom one; what is no field of its own is a pod's spec."""

    name: Name | None = None
    labels: Labels
    annotations: Labels
    minReplicas: int = Field(ge=0)
    maxReplicas: int | None = None


class Canary(Strict):
    predictor: dict[str, Any]
    trafficPercent: int = Field(ge=0, le=100)


class InferenceServiceSpec(Strict):
    predictor: dict[str, Any]
    canary: list[Canary] = Field(default_factory=list)

    @model_validator(mode="after")
    def _as_its_webhook_wants(self) -> InferenceServiceSpec:
        for one in self.canary:
            predictor = one.predictor
            if "name" not in predictor or predictor["name"] == self.predictor.get("name"):
                raise ValueError("a canary has a name of its own")
            if "maxReplicas" in predictor:
                raise ValueError("a canary is not scaled")
            if predictor["minReplicas"] > self.predictor["minReplicas"]:
                raise ValueError("a canary has no more replicas than the rest")
            for each in (predictor, self.predictor):
                names = [variable["name"] for variable in each["containers"][0]["env"]]
                if "STORAGE_URI" not in names:
                    raise ValueError("canary requires a stable predictor with a model")
        return self


def predictor_pod(predictor: dict[str, Any]) -> dict[str, Any]:
    """The pod's spec within a predictor, once the fields of its own were looked at."""
    own = {key: value for key, value in predictor.items() if key in Predictor.model_fields}
    Predictor.model_validate(own)
    return {key: value for key, value in predictor.items() if key not in own}
