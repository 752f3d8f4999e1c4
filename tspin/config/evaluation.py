"""The evaluation section: own metrics on held-out records, and tasks of lm-evaluation-harness."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator

from tspin.config.strict import Location, Strict
from tspin.errors import InputError
from tspin.records.extractors import find_extractor

__all__ = ["EvaluateConfig", "ExtractorName", "HarnessConfig"]

_OWN_ARGUMENTS = {
    "pretrained": "model.path",
    "model": "model.path",
    "tokenizer": "model.path",
    "lora_local_path": "model.path",
    "max_lora_rank": "nothing: it follows from the adapter",
    "enable_lora": "nothing: it follows from the adapter",
    "dtype": "model.dtype",
    "trust_remote_code": "model.trust_remote_code",
    "max_model_len": "prompt.max_length",
    "seed": "seed",
    "data_parallel_size": "tensor_parallel_size: the harness has copies only through Ray",
}
"""Arguments of vLLM that another setting decides, and that setting."""


def _known(name: str) -> str:
    try:
        find_extractor(name)
    except InputError as error:
        raise ValueError(str(error)) from None
    return name


ExtractorName = Annotated[str, AfterValidator(_known)]
"""A name in `tspin.records.extractors.EXTRACTORS`."""


class HarnessConfig(Strict):
    """How lm-evaluation-harness runs the tasks."""

    task_folder: Location | None = None
    """Tasks of your own: YAML files of the harness; paths of data in them start at this folder. A
    `!function` in them is Python that runs."""
    num_fewshot: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    """Solved examples before each question, by task; otherwise the preset's or the task's own."""
    fraction: float = Field(1.0, gt=0, le=1)
    """Share of each task's questions: the same ones on every machine and for every model."""
    chat_template: bool | None = None
    """Ask through the model's chat template; None does so where prompt.template comes to it."""
    backend: Literal["auto", "transformers", "vllm"] = "auto"
    """auto is vllm where it is installed and a GPU is visible."""
    vllm_args: dict[str, Any] = Field(default_factory=dict)
    """For the backend vllm, as vLLM's own: gpu_memory_utilization, tensor_parallel_size ..."""

    @field_validator("vllm_args")
    @classmethod
    def _no_setting_of_its_own(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value.keys() & _OWN_ARGUMENTS.keys():
            raise ValueError(f"'{name}' is not given here; set {_OWN_ARGUMENTS[name]}")
        return value


class EvaluateConfig(Strict):
    """Measured on the held-out records after each iteration."""

    extractors: tuple[ExtractorName, ...] = ("exact",)
    """Named rules that find the verifiable answer in a text (tspin/records/extractors.py)."""
    max_new_tokens: int | None = Field(None, gt=0)
    """For held-out answers; None takes generate.max_new_tokens."""
    sampled: bool = True
    """Besides greedy answers, sample one a prompt as `generate` does."""
    fit_temperature: bool = False
    """Fit the sampling temperature under which the held-out annotations are likeliest; with
    `sampled`, sample one more answer a prompt at it."""
    max_records: int | None = Field(None, gt=0)
    """Measure on so many held-out records, the same ones every time; None takes all."""
    confidence: float = Field(0.95, gt=0, lt=1)
    """Of all intervals."""
    tasks: tuple[str, ...] = ()
    """Tasks and groups of lm-evaluation-harness, or the presets `paper` and `paper-quick`
    (docs/guides/evaluation.md)."""
    harness: HarnessConfig = HarnessConfig()
