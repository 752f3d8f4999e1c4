"""A piece of a model: its own architecture, as many layers as there is time for, random weights."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from tspin.config import LoraConfig, RunConfig
from tspin.errors import InputError
from tspin.machine.check import gib
from tspin.machine.hardware import available_memory
from tspin.models.configuration import token_limit
from tspin.models.shape import empty_model
from tspin.planning.sizes import Sizes
from tspin.records.records import AnnotatedRecord, read_records
from tspin.tokens.loading import load_template
from tspin.tokens.prompts import PromptTemplate

__all__ = ["Example", "Piece"]

_LARGE = 50_000_000
"""Parameters past which only some layers are measured."""
_LOOKED_AT, _EXAMPLES = 2_000, 256
"""Records at the beginning of the file, and how many of them are worked on."""


@dataclass(frozen=True)
class Example:
    """A record, tokenised."""

    record: AnnotatedRecord
    prompt: list[int]
    annotated: int
    """Tokens of the annotation, end token included."""


@dataclass(frozen=True)
class Piece:
    """A model of random weights in a folder of its own, and the configuration to work on it."""

    config: RunConfig
    sizes: Sizes
    folder: Path
    template: PromptTemplate
    threads: int

    @classmethod
    def of(cls, config: RunConfig, sizes: Sizes, place: Path, threads: int) -> Piece:
        """Make one.

        Args:
            config: Of the run.
            sizes: Of its model.
            place: A folder, in which the piece gets its own.
            threads: Of the process that works on it.

        Raises:
            InputError: there is no room for it in memory.
        """
        template = load_template(config.model.path, config.model, config.prompt)
        own = empty_model(config.model).config
        text: Any = own.get_text_config()  # type: ignore[operator, union-attr]
        share = _LARGE / max(sizes.shape.parameters, _LARGE)
        text.num_hidden_layers = max(1, int(share * sizes.shape.layers))
        if getattr(text, "layer_types", None):
            text.layer_types = text.layer_types[: text.num_hidden_layers]
        _refuse_without_room(own)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model: PreTrainedModel = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
                own, trust_remote_code=config.model.trust_remote_code
            )
        folder = place / "piece"
        model.save_pretrained(folder)
        template.tokenizer.save_pretrained(folder)
        changed = _changed(config, sizes, folder, threads)
        return cls(changed, Sizes.of(changed), folder, template, threads)

    def examples(self, annotated: Path) -> list[Example]:
        """Records from all over the first thousands, whatever their length, that fit."""
        limit = token_limit(str(self.folder), self.config.model, self.config.prompt)
        records = list(islice(read_records(annotated, AnnotatedRecord), _LOOKED_AT))
        examples = []
        for record in records[:: max(1, len(records) // _EXAMPLES)]:
            prompt = self.template.record_prompt_ids(record)
            response = len(self.template.annotated_ids(record))
            new = max(self.config.generate.max_new_tokens, response)
            if len(prompt) + new <= limit:
                examples.append(Example(record, prompt, response))
        if not examples:
            raise InputError(f"{annotated}: no record to measure with fits {limit:,} tokens")
        return examples


def _changed(config: RunConfig, sizes: Sizes, folder: Path, threads: int) -> RunConfig:
    """The configuration, of one process that trains the piece for an epoch."""
    lora = config.train.lora
    if lora is None and sizes.shape.adapter_parameters:
        lora = LoraConfig()  # The initial policy is an adapter itself.
    sections = {
        "model": {"path": str(folder), "revision": None},
        "prompt": {"over_long": "drop"},
        "train": {"epochs": 1, "lora": lora, "warmup_ratio": 0.0},
        "system": {"num_processes": 1, "threads": threads, "checkpoints": None, "report_to": ()},
    }
    return config.model_copy(
        update={
            name: getattr(config, name).model_copy(update=values)
            for name, values in sections.items()
        }
    )


def _refuse_without_room(own: Any) -> None:
    with torch.device("meta"):
        built = AutoModelForCausalLM.from_config(own)  # type: ignore[no-untyped-call]
    # Weights, gradients, two states, and a copy on its way to the disk.
    needed = 5 * 4 * sum(parameter.numel() for parameter in built.parameters())
    available, _ = available_memory()
    if needed > available:
        raise InputError(
            f"to measure even a piece of this model takes about {gib(needed)} of memory, and "
            f"{gib(available)} are free here; name the GPU that the run is for: --device"
        )
