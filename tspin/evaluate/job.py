"""What an evaluation is made from: policy, held-out records, responses to compare with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from tspin.config import EvaluateConfig, GenerateConfig, RunConfig
from tspin.engines import BATCHES_A_GROUP, SamplingParams, engine_name
from tspin.engines.choice import find_vllm
from tspin.errors import InputError
from tspin.evaluate.heldout import Heldout
from tspin.evaluate.sharing import Measurement, Temperature
from tspin.generate.shards import WHOLE, Shard
from tspin.harness.folders import task_files_hash
from tspin.harness.loading import harness_version
from tspin.models.configuration import context_length, token_limit
from tspin.models.device import numerics, resolve_device
from tspin.models.folder import find_model
from tspin.records.manifest import Manifest, content_hash, read_manifest, refuse_contradiction
from tspin.records.records import Response, read_records
from tspin.store import fetch
from tspin.tokens.loading import load_template
from tspin.tokens.prompts import PromptTemplate

__all__ = ["BLOCK", "EvaluationJob", "Mode", "modes_of", "shard_parameters"]

Mode = Literal["greedy", "sampled", "fitted"]

BLOCK = "shard_block"
"""Parameter of a shard's manifests: `EvaluationJob.block_size`."""


@dataclass(frozen=True)
class EvaluationJob:
    """The inputs of one evaluation, checked against each other."""

    config: RunConfig
    model: str
    annotated: Path
    proto: Path | None
    template: PromptTemplate
    context: int | None
    """The model's, in tokens; None has no limit."""
    task_folder: Path | None
    """Tasks of one's own, on this machine."""
    wanted: Manifest
    """Of metrics.json, but for its counts."""
    temperature: float | None = None
    """Fitted on other records; None if it is to be fitted on these."""
    chat: PromptTemplate | None = None
    """Renders the questions of tasks; None asks them without a chat template."""
    shard: Shard = WHOLE
    """Which part of the evaluation is to be made."""

    @classmethod
    def of(
        cls,
        config: RunConfig,
        model: str,
        annotated: Path,
        proto: Path | None,
        iteration: int,
        *,
        temperature: float | None = None,
        shard: Shard = WHOLE,
    ) -> EvaluationJob:
        """Look at all inputs without loading a policy (see `tspin.evaluate.step.evaluate`).

        Args:
            config: Of the run.
            model: The policy: a folder, or a name on the Hub.
            annotated: Held-out records.
            proto: Responses of the initial policy to them, or None.
            iteration: That the policy ended; -1 for the initial one.
            temperature: Fitted on other records, or None.
            shard: The part of the evaluation to make.

        Raises:
            InputError: a file or the model is missing, or the settings do not fit the model.
        """
        folder = find_model(model, config.model, weights=False)
        template = load_template(folder, config.model, config.prompt)
        context = context_length(folder, config.model)
        tasks, task_settings = _tasks(config)
        inputs = _input_hashes(annotated, proto, tasks)
        manifest = Manifest(
            kind="metrics" if shard == WHOLE else "metrics_shard",
            inputs=inputs,
            iteration=iteration,
            model=folder.identity(config.model),
            template=template.hash,
            engine=engine_name(config),
            parameters={
                **_settings(config, temperature),
                "max_length": token_limit(folder, config.model, config.prompt),
                **task_settings,
                **shard_parameters(shard, _block_size(config)),
            },
            seed=config.seed,
        )
        fields = (config, model, annotated, proto, template, context, tasks, manifest, temperature)
        return cls(*fields, _chat(config, template), shard)

    @property
    def max_length(self) -> int:
        """Tokens of prompt and response together: prompt.max_length, or the model's context."""
        return int(self.wanted.parameters["max_length"])

    @property
    def tasks_in_vllm(self) -> bool:
        """Whether vLLM answers the tasks, rather than the policy that the likelihoods come from."""
        return self.wanted.parameters.get("task_engine") == "vllm"

    @property
    def block_size(self) -> int:
        """Records a block (`Heldout.blocks`): what the engine `transformers` answers together."""
        return _block_size(self.config)

    @property
    def fits_temperature(self) -> bool:
        """Whether a temperature is to be fitted on these records."""
        return self.config.evaluate.fit_temperature and self.temperature is None

    def sampling(self, mode: Mode, fitted: float | None = None) -> SamplingParams:
        """Greedily, as `generate` samples, or at a fitted temperature.

        A temperature is fitted to the whole distribution, and so the whole of it is sampled from:
        `generate.top_p` does not count then.
        """
        generate = self.config.generate
        temperatures = {"greedy": 0.0, "sampled": generate.temperature, "fitted": fitted}
        temperature = temperatures[mode]
        if temperature is None:
            raise ValueError("answers at the fitted temperature need one")
        return SamplingParams(
            temperature=temperature,
            top_p=generate.top_p if mode == "sampled" else 1.0,
            max_new_tokens=self.config.evaluate.max_new_tokens or generate.max_new_tokens,
            stop=generate.stop,
        )

    def heldout(self) -> Heldout:
        """The records to measure on.

        Raises:
            InputError: a broken or over-long record, or none is left.
        """
        return Heldout.read(
            self.annotated,
            self.template,
            max_records=self.config.evaluate.max_records,
            max_length=self.max_length,
            max_new_tokens=self.sampling("greedy").max_new_tokens,
            over_long=self.config.prompt.over_long,
        )

    def measurement(
        self,
        pairs: Iterable[tuple[Sequence[int], Sequence[int]]],
        temperature: Temperature | None = None,
        *,
        blocks: Iterable[int] | None = None,
    ) -> Measurement:
        """What finds out how likely the policy finds responses.

        Args:
            pairs: Token ids of prompts and responses.
            temperature: At which; None is 1.
            blocks: Of each pair (`tspin.evaluate.heldout.Heldout.blocks`); None is one for all.
        """
        return Measurement(
            config=self.config,
            model=self.model,
            pad_token_id=self.template.pad_token_id,
            pairs=tuple((tuple(prompt), tuple(response)) for prompt, response in pairs),
            blocks=None if blocks is None else tuple(blocks),
            temperature=temperature,
            threads=torch.get_num_threads(),
        )

    def proto_responses(self, heldout: Heldout) -> dict[str, Response] | None:
        """Responses of the initial policy by id, for the held-out records only.

        Raises:
            InputError: they were made from other records or with another template, or one is
                missing that was not dropped for its length.
        """
        if self.proto is None:
            return None
        manifest = read_manifest(self.proto)
        proto_manifest = manifest or Manifest(kind="responses")
        here, there = str(self.annotated), str(self.proto)
        refuse_contradiction(
            "annotated set",
            {here: self.wanted.inputs["annotated"], there: proto_manifest.inputs.get("annotated")},
        )
        refuse_contradiction(
            "prompt template", {self.model: self.template.hash, there: proto_manifest.template}
        )
        responses = read_records(self.proto, Response)
        known = {response.id: response for response in responses if response.sample == 0}
        left_out = {identity for ids in proto_manifest.dropped_ids.values() for identity in ids}
        for identity in heldout.prompts.keys() - left_out:
            if identity not in known:
                raise InputError(
                    f"{self.proto}: no response for id {identity!r} of {self.annotated}; generate "
                    "it again from the same held-out records"
                )
        return {identity: known[identity] for identity in heldout.prompts if identity in known}


def modes_of(settings: EvaluateConfig) -> tuple[Mode, ...]:
    """How answers are decoded; greedy ones always."""
    if not settings.sampled:
        return ("greedy",)
    return ("greedy", "sampled", "fitted") if settings.fit_temperature else ("greedy", "sampled")


def shard_parameters(shard: Shard, block: int) -> dict[str, str | int]:
    """What a manifest says of a shard; nothing of a whole.

    Args:
        shard: The part of the evaluation.
        block: Records a block: shards that count in other blocks make no whole.
    """
    return {} if shard == WHOLE else {"shard": str(shard), BLOCK: block}


def _settings(config: RunConfig, temperature: float | None) -> dict[str, Any]:
    """Whatever of the configuration decides the metrics."""
    return {
        **config.evaluate.model_dump(mode="json"),
        "generate": _decoding(config.generate),
        "over_long": config.prompt.over_long,
        **({} if temperature is None else {"temperature": temperature}),
        **numerics(config.model, resolve_device(config.system)),
    }


def _block_size(config: RunConfig) -> int:
    return BATCHES_A_GROUP * config.system.generate_batch_size


def _chat(config: RunConfig, template: PromptTemplate) -> PromptTemplate | None:
    """What asks the questions of tasks, by `evaluate.harness.chat_template`."""
    asked = config.evaluate.harness.chat_template
    if not config.evaluate.tasks or not (template.kind == "chat" if asked is None else asked):
        return None
    if template.kind == "chat":
        return template
    return PromptTemplate.load(
        template.tokenizer, config.prompt.model_copy(update={"template": "chat"})
    )


def _decoding(settings: GenerateConfig) -> dict[str, Any]:
    # Manifests of earlier releases do not have it: they are of evaluations without it.
    exclude = {"samples"} if settings.coupled else {"samples", "coupled"}
    return settings.model_dump(mode="json", exclude=exclude)


def _input_hashes(annotated: Path, proto: Path | None, tasks: Path | None) -> dict[str, str]:
    """Content hashes of what is evaluated on, by role."""
    hashes = {}
    for role, path in {"annotated": annotated, "proto_synthetic": proto}.items():
        if path is not None and not path.is_file():
            raise InputError(f"{path}: no such file; expected {role} records (JSON Lines)")
        if path is not None:
            hashes[role] = content_hash(path)
    if tasks is not None:
        hashes["task_folder"] = task_files_hash(tasks)
    return hashes


def _tasks(config: RunConfig) -> tuple[Path | None, dict[str, str]]:
    """The folder of tasks of one's own, and what else decides their scores."""
    if not config.evaluate.tasks:
        return None, {}
    own = config.evaluate.harness.task_folder
    settings = {"lm_eval": harness_version(), "task_engine": _task_engine(config)}
    return None if own is None else fetch(own), settings


def _task_engine(config: RunConfig) -> Literal["vllm", "transformers"]:
    """Who answers the tasks: `evaluate.harness.backend`, and what 'auto' comes to here."""
    backend = config.evaluate.harness.backend
    if backend == "auto":
        served = find_vllm() is not None and torch.cuda.is_available()
        return "vllm" if served else "transformers"
    return backend
