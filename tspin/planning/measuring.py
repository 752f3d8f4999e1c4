"""How fast this machine is, by a few real steps on a piece of the work with random weights.

The piece is the model's own architecture with as many layers as measuring has time for: all of a
small model's, one of a large one's. Times then follow from operations, so that a large model's
layers are taken to be as fast as those of the piece.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import harmonic_mean
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from tspin.config import LoraConfig, RunConfig
from tspin.engines import SamplingParams
from tspin.engines.decoding import decode
from tspin.engines.sampling import RowSampler
from tspin.errors import InputError
from tspin.forward.passes import choose_passes
from tspin.machine.check import gib
from tspin.machine.hardware import available_memory
from tspin.models.configuration import token_limit
from tspin.models.device import resolve_device
from tspin.models.policy import load_policy
from tspin.models.pretrained import without_bars
from tspin.models.shape import empty_model
from tspin.models.threads import arithmetic_here, threads_held
from tspin.planning.sizes import Sizes
from tspin.planning.speed import Measured
from tspin.records.records import AnnotatedRecord, Triplet, read_records, write_records
from tspin.records.training_log import SPEED
from tspin.tokens.examples import load_examples, roles_of
from tspin.tokens.loading import load_template
from tspin.tokens.prompts import PromptTemplate
from tspin.train.arguments import trainer_arguments
from tspin.train.job import TrainJob
from tspin.train.reference import needs_reference, reference_key, reference_logps
from tspin.train.trainer import TSPINTrainer

__all__ = ["measure"]

_SECONDS = 3.0
"""That the steps of each kind of work should take, roughly."""
_LARGE = 50_000_000
"""Parameters past which only some layers are measured."""
_STEPS = 4
"""Of the optimiser; the first one is not counted, which is slower."""
_GROUP = 4
"""Batches that the engine transformers answers together (`tspin.engines.transformers`)."""
_LOOKED_AT, _EXAMPLES = 2_000, 256
"""Records at the beginning of the file, and how many of them are worked on."""


def measure(config: RunConfig, sizes: Sizes, annotated: Path) -> Measured:
    """Run a few steps of training and of decoding here, with threads and device as the run has.

    Args:
        config: Of the run.
        sizes: Of its model, of which no weight is read.
        annotated: Records on this machine.

    Raises:
        InputError: even a piece of the model has no room in this machine's memory.
    """
    began = time.perf_counter()
    here = arithmetic_here(config.system)
    with TemporaryDirectory(prefix="tspin-plan-") as place, _quiet(), without_bars():
        piece = _Piece.of(config, sizes, Path(place), here.threads)
        examples = piece.examples(annotated)
        training, fixed = piece.trained(examples)
        generation = piece.generated(examples)
    whole = piece.sizes.shape.layers == sizes.shape.layers
    return Measured(
        device=here.device,
        training=training,
        generation=generation,
        fixed=fixed if whole else 0.0,
        width=config.system.generate_batch_size,
        seconds_taken=time.perf_counter() - began,
        layers=(piece.sizes.shape.layers, sizes.shape.layers),
    )


@dataclass(frozen=True)
class _Example:
    record: AnnotatedRecord
    prompt: list[int]
    annotated: int


@dataclass(frozen=True)
class _Piece:
    """A model of random weights in a folder of its own, and the configuration to work on it."""

    config: RunConfig
    sizes: Sizes
    folder: Path
    template: PromptTemplate
    threads: int

    @classmethod
    def of(cls, config: RunConfig, sizes: Sizes, place: Path, threads: int) -> _Piece:
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

    def examples(self, annotated: Path) -> list[_Example]:
        """Records from all over the first thousands, whatever their length, that fit."""
        limit = token_limit(str(self.folder), self.config.model, self.config.prompt)
        records = list(islice(read_records(annotated, AnnotatedRecord), _LOOKED_AT))
        examples = []
        for record in records[:: max(1, len(records) // _EXAMPLES)]:
            prompt = self.template.record_prompt_ids(record)
            response = len(self.template.annotated_ids(record))
            new = max(self.config.generate.max_new_tokens, response)
            if len(prompt) + new <= limit:
                examples.append(_Example(record, prompt, response))
        if not examples:
            raise InputError(f"{annotated}: no record to measure with fits {limit:,} tokens")
        return examples

    def trained(self, examples: Sequence[_Example]) -> tuple[float, float]:
        """Operations a second of training's steps, and the seconds that it takes besides them."""
        iteration = min(1, self.config.iterations - 1)
        pairs = [(one, examples[at - 1]) for at, one in enumerate(examples)]
        costs = [self._cost(one, other, iteration) for one, other in pairs]
        size = self._step_size(costs)
        chosen = pairs[: _STEPS * size]
        path = self.folder.with_name("triplets.jsonl")
        write_records(path, [_triplet(one.record, other.record) for one, other in chosen])
        section = self.config.train.model_copy(update={"global_batch_size": size})
        config = self.config.model_copy(update={"train": section})
        began = time.perf_counter()
        with threads_held(self.threads):
            rates = self._rates(config, path, iteration)
        steps = sum(size / rate for rate in rates)
        done = sum(costs[: len(chosen)]) / len(chosen)
        fixed = max(time.perf_counter() - began - steps, 0.0)
        return harmonic_mean(rates[1:] or rates) * done, fixed

    def _rates(self, config: RunConfig, triplets: Path, iteration: int) -> list[float]:
        """Triplets a second of each step, as `tspin.train.process` makes them."""
        out = self.folder.with_name("trained")
        job = TrainJob(
            config=config,
            model=str(self.folder),
            triplets=triplets,
            iteration=iteration,
            out=out,
            checkpoints=out.with_name("checkpoints"),
        )
        examples = load_examples(
            triplets,
            self.template,
            roles=roles_of(config.train.method, config.train.beta_at(iteration)),
            max_length=token_limit(str(self.folder), config.model, config.prompt),
            over_long="drop",
        )
        args = trainer_arguments(job)
        policy = load_policy(
            job.model, config.model, device=args.device, trainable=True, lora=config.train.lora
        )
        passes = choose_passes(
            policy,
            examples.extremes(),
            pad_token_id=self.template.pad_token_id,
            chunk_size=args.logps_chunk_size,
            device=args.device,
        )
        if needs_reference(args.method):
            key = reference_key(job.wanted(self.template))
            cache = job.checkpoints / "reference.safetensors"
            examples.reference_logps = reference_logps(
                policy, examples, cache, key=key, passes=passes, args=args
            )
        trainer = TSPINTrainer(policy, args, examples, passes=passes)
        trainer.train()
        rows = [row for row in trainer.state.log_history if "loss" in row]
        return [row[f"{SPEED}triplets_per_second"] for row in rows]

    def generated(self, examples: Sequence[_Example]) -> float:
        """Operations a second of decoding as the engine transformers does it.

        Random weights end a response nowhere near where a policy would. So its length is that of an
        annotation, chosen by the first token that was drawn.
        """
        limit = self.config.generate.max_new_tokens
        lengths = [min(one.annotated, limit) for one in examples]
        width = self.config.system.generate_batch_size
        prompts = [tuple(one.prompt) for one in examples[: _GROUP * width]]
        prompts.sort(key=len, reverse=True)
        device = resolve_device(self.config.system)
        policy = load_policy(str(self.folder), self.config.model, device=device, trainable=False)
        sampler = RowSampler(
            SamplingParams.of(self.config.generate), range(len(prompts)), device
        )
        with threads_held(self.threads):
            self._decoded(policy, prompts[:2], sampler, lambda emitted: len(emitted) > 1)
            began = time.perf_counter()
            emitted = self._decoded(
                policy,
                prompts,
                sampler,
                lambda row: len(row) >= lengths[row[0] % len(lengths)]
                or time.perf_counter() - began > _SECONDS,
            )
            taken = time.perf_counter() - began
        flops = self.sizes.flops
        return (
            sum(
                flops.of_lengths(len(prompt), [len(row)], backward=False)
                for prompt, row in zip(prompts, emitted, strict=True)
            )
            / taken
        )

    def _decoded(
        self, policy: Any, prompts: list[tuple[int, ...]], sampler: RowSampler, ended: Any
    ) -> list[list[int]]:
        return decode(
            policy,
            prompts,
            width=self.config.system.generate_batch_size,
            pad_token_id=self.template.pad_token_id,
            sampler=sampler,
            ended=ended,
        )

    def _cost(self, one: _Example, other: _Example, iteration: int) -> float:
        train_section = self.config.train
        beta = train_section.beta_at(iteration)
        others = 0 if train_section.method == "sft" else 2 if beta > 0 else 1
        responses = [one.annotated, other.annotated + 1, other.annotated + 1][: 1 + others]
        return self.sizes.passes(len(one.prompt), responses, backward=True)[1]

    def _step_size(self, costs: Sequence[float]) -> int:
        """Triplets a step, of as many as there are and time allows."""
        triplet = sum(costs) / len(costs)
        affordable = int(_SECONDS * _rough_rate(self.threads) / triplet)
        most = min(self.config.train.global_batch_size, len(costs) // _STEPS)
        return max(1, min(most, affordable // _STEPS))


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


def _rough_rate(threads: int) -> float:
    """Operations a second that training may reach here: a tenth of a product of matrices."""
    side = 512
    left = torch.randn(side, side, generator=torch.Generator().manual_seed(0))
    with threads_held(threads):
        torch.matmul(left, left)
        began = time.perf_counter()
        for _ in range(4):
            torch.matmul(left, left)
        return 4 * 2 * side**3 / (time.perf_counter() - began) / 10


def _triplet(record: AnnotatedRecord, other: AnnotatedRecord) -> Triplet:
    """With the responses to another prompt for the policy's: equal ones would be computed once."""
    return Triplet(
        id=record.id,
        messages=record.messages,
        tools=record.tools,
        annotated=record.response,
        annotated_reasoning_content=record.reasoning_content,
        annotated_tool_calls=record.tool_calls,
        synthetic=f"{other.response}.",
        proto_synthetic=f"{other.response}!",
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what a step of training says about data that are no real ones."""
    ours = logging.getLogger("tspin")
    before = ours.level
    ours.setLevel(logging.ERROR)
    try:
        yield
    finally:
        ours.setLevel(before)
