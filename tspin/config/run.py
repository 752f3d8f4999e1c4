"""The run configuration: every setting, its default, its range. Importable without torch.

Defaults are the setting of the T-SPIN and SPIN papers (docs/reference/papers.md).
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from tspin.config.evaluation import EvaluateConfig, ExtractorName
from tspin.config.strict import Location, Strict
from tspin.config.system import SystemConfig
from tspin.config.training import TrainConfig

__all__ = [
    "DataConfig",
    "GateConfig",
    "GenerateConfig",
    "ModelConfig",
    "PromptConfig",
    "RunConfig",
    "TripletsConfig",
]

Keep = Literal["keep", "drop"]

_OWN_TEMPLATE_ARGUMENTS = {
    "add_generation_prompt",
    "chat_template",
    "continue_final_message",
    "conversation",
    "documents",
    "max_length",
    "messages",
    "padding",
    "processor_kwargs",
    "return_assistant_tokens_mask",
    "return_dict",
    "return_tensors",
    "strftime_now",
    "tokenize",
    "tokenizer_kwargs",
    "tools",
    "truncation",
}
"""What a chat template is handed in any case, or what is not for it but for transformers."""


class ModelConfig(Strict):
    """The initial policy pi_0."""

    path: Location
    """A folder with safetensors weights, `s3://bucket/prefix` of one, or a name on the Hugging Face
    Hub."""
    revision: str | None = None
    """Commit hash or tag on the Hub; pin it, or a moved branch changes your results."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the weights in memory; auto is bfloat16 on a GPU that has it, float32 elsewhere. Name one
    where a run may move between the two: what was computed in another precision is made again."""
    quantize: Literal["none", "nf4"] = "none"
    """Keep the frozen weights under a LoRA adapter in four bits (QLoRA, arXiv 2305.14314); needs
    `train.lora`, and cannot be sharded. Other weights are computed with, so it is part of what a
    training is."""
    attn_implementation: str | None = None
    """As transformers names it: eager, sdpa, flash_attention_2 ...; None takes the model's default,
    and packed rows where the model allows them."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model; read it first."""


class DataConfig(Strict):
    """Annotated records (JSON Lines); `tspin data import` makes them from other formats."""

    annotated: Location
    """Prompts with an expert's responses, to train on."""
    heldout: Location | None = None
    """Never trained on; without it nothing can be evaluated and no gate can hold."""


class PromptConfig(Strict):
    """How conversations become tokens, the same in every step."""

    template: Literal["auto", "chat", "instruction"] = "auto"
    """The model's chat template, the papers' instruction template, or the first if there is one."""
    chat_template: Location | None = None
    """A file with a chat template (Jinja) that takes the place of the model's: a path, or
    `s3://bucket/key`. Trained models are saved with it."""
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)
    """What the chat template is asked with besides the turns, such as `{enable_thinking: false}`.
    Whoever serves the model has to ask with the same."""
    reasoning: Literal["error", "keep", "drop"] = "error"
    """What becomes of an annotation's `reasoning_content`: refused, trained where the chat template
    puts it, or left out."""
    max_length: int = Field(2048, gt=1)
    """Prompt and response together, in tokens."""
    over_long: Literal["error", "drop"] = "error"
    """What becomes of a record longer than max_length; dropped ones are counted and listed."""

    @field_validator("chat_template_kwargs")
    @classmethod
    def _asks_nothing_of_ours(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in sorted(_OWN_TEMPLATE_ARGUMENTS & value.keys()):
            raise ValueError(f"'{name}' is given by the conversation itself; remove it")
        return value

    @model_validator(mode="after")
    def _chat_settings_have_a_chat(self) -> Self:
        settings = {
            "chat_template": self.chat_template,
            "chat_template_kwargs": self.chat_template_kwargs,
        }
        for name, value in settings.items():
            if value and self.template == "instruction":
                raise ValueError(
                    f"{name} is for a chat template, but template is 'instruction'; remove one"
                )
        return self


class GenerateConfig(Strict):
    """Sampling of synthetic responses."""

    engine: Literal["auto", "transformers", "vllm", "fake"] = "auto"
    """auto is vllm where it is installed and a GPU is visible, transformers elsewhere; fake answers
    without a model, to try a pipeline out."""
    temperature: float = Field(1.0, ge=0)
    """0 is greedy."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Sample from the likeliest tokens whose probabilities add up to this."""
    samples: int = Field(1, gt=0)
    """Responses to each prompt, with a seed of its own each. A prompt's loss is the mean over them,
    and y0 the first one of the initial policy. The papers draw one."""
    max_new_tokens: int = Field(1024, gt=0)
    """Longest response, in tokens; a longer one is cut off, with finish reason `length`."""
    stop: tuple[str, ...] = ()
    """A response ends before the first of these strings."""
    coupled: bool = False
    """Draw the responses to a prompt with the same random numbers in every iteration, so that they
    differ only where the policies do. Each is a sample of its policy either way."""
    engine_args: dict[str, Any] = Field(default_factory=dict)
    """For the engine vllm, as vLLM's own: gpu_memory_utilization, max_num_seqs ..."""

    @model_validator(mode="after")
    def _samples_differ(self) -> Self:
        if self.samples > 1 and self.temperature == 0:
            raise ValueError(
                f"samples is {self.samples}, but at temperature 0 all of them are the same; set "
                "samples to 1, or temperature above 0"
            )
        return self


class TripletsConfig(Strict):
    """What becomes of doubtful responses; every case is counted and reported either way."""

    identical: Keep = "keep"
    """The synthetic response equals the annotated one."""
    empty: Keep = "keep"
    """The synthetic or the proto-synthetic response is empty."""
    truncated: Keep = "keep"
    """The synthetic or the proto-synthetic response was cut off at max_new_tokens."""
    same_answer: ExtractorName | None = None
    """Drop where y' gives the annotated answer by this extractor (as in `evaluate.extractors`), so
    that right answers in other words are not trained down: not the papers' method."""


class GateConfig(Strict):
    """Which model is the best, and when the run stops."""

    metric: str = "nll_per_token"
    """A name in metrics.json."""
    direction: Literal["max", "min"] = "min"
    """Whether more of the metric is better, or less."""
    margin: float | None = Field(None, ge=0)
    """Stop when an iteration is worse than the best by more than this; None never stops."""


class RunConfig(Strict):
    """Everything a run is made of."""

    # What `tspin.config.loading` takes out before: the format, and sections of other tools.
    model_config = ConfigDict(json_schema_extra={"patternProperties": {"^x-|^format$": {}}})

    run_dir: Location
    """A folder, or `s3://bucket/prefix`, which is brought up to date after each iteration."""
    iterations: int = Field(5, gt=0)
    """How often the policy plays and trains; a larger number later continues the same run."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Of every draw: equal seeds give equal bytes."""
    model: ModelConfig
    data: DataConfig
    prompt: PromptConfig = PromptConfig()
    generate: GenerateConfig = GenerateConfig()
    triplets: TripletsConfig = TripletsConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    gate: GateConfig = GateConfig()
    system: SystemConfig = SystemConfig()

    @model_validator(mode="after")
    def _evaluation_has_records(self) -> Self:
        if self.gate.margin is not None and self.data.heldout is None:
            raise ValueError("gate.margin needs data.heldout: without it nothing is evaluated")
        asked = {"tasks": self.evaluate.tasks, "fit_temperature": self.evaluate.fit_temperature}
        for name, value in asked.items():
            if value and self.data.heldout is None:
                raise ValueError(
                    f"evaluate.{name} needs data.heldout: without it nothing is evaluated"
                )
        return self

    @model_validator(mode="after")
    def _quantized_weights_stay_as_they_are(self) -> Self:
        quantize, shard = self.model.quantize, self.system.shard
        if quantize != "none" and self.train.lora is None:
            raise ValueError(
                f"model.quantize '{quantize}' needs train.lora: weights in four bits cannot be "
                "trained, only an adapter on them"
            )
        if quantize != "none" and shard == "on":
            raise ValueError(
                f"model.quantize is '{quantize}' and system.shard 'on', but weights in four bits "
                "are not sharded; set one to 'none' or 'off'"
            )
        return self

    @model_validator(mode="after")
    def _responses_fit(self) -> Self:
        if self.generate.max_new_tokens >= self.prompt.max_length:
            raise ValueError(
                f"generate.max_new_tokens ({self.generate.max_new_tokens}) leaves no room for a "
                f"prompt in prompt.max_length ({self.prompt.max_length})"
            )
        return self
