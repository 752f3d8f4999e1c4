"""How fast this machine is, by a few real steps on a piece of the work with random weights.

The piece is the model's own architecture with as many layers as measuring has time for: all of a
small model's, one of a large one's. Times then follow from operations, so that a large model's
layers are taken to be as fast as those of the piece.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from statistics import harmonic_mean
from tempfile import TemporaryDirectory
from typing import Any

import torch

from tspin.config import SUPERVISED, RunConfig
from tspin.engines import SamplingParams
from tspin.engines.decoding import decode
from tspin.engines.sampling import RowSampler
from tspin.forward.passes import choose_passes
from tspin.models.configuration import token_limit
from tspin.models.device import resolve_device
from tspin.models.policy import load_policy
from tspin.models.pretrained import without_bars
from tspin.models.threads import arithmetic_here, threads_held
from tspin.planning.piece import Example, Piece
from tspin.planning.sizes import Sizes
from tspin.planning.speed import Measured
from tspin.processes.group import errors_only
from tspin.records.records import AnnotatedRecord, Triplet, write_records
from tspin.records.samples import with_demonstration
from tspin.records.training_log import SPEED
from tspin.tokens.examples import load_examples, roles_of
from tspin.train.arguments import trainer_arguments
from tspin.train.job import TrainJob
from tspin.train.reference import needs_reference, reference_key, reference_logps
from tspin.train.trainer import TSPINTrainer

__all__ = ["measure"]

_SECONDS = 3.0
"""That the steps of each kind of work should take, roughly."""
_STEPS = 4
"""Of the optimiser; the first one is not counted, which is slower."""
_GROUP = 4
"""Batches that the engine transformers answers together (`tspin.engines.transformers`)."""


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
    with TemporaryDirectory(prefix="tspin-plan-") as place, errors_only(), without_bars():
        piece = Piece.of(config, sizes, Path(place), here.threads)
        examples = piece.examples(annotated)
        training, fixed = _training_rate(piece, examples)
        generation = _decoding_rate(piece, examples)
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


def _training_rate(piece: Piece, examples: Sequence[Example]) -> tuple[float, float]:
    """Operations a second of training's steps, and the seconds that it takes besides them."""
    iteration = min(1, piece.config.iterations - 1)
    pairs = [(one, examples[at - 1]) for at, one in enumerate(examples)]
    costs = [_cost(piece, one, other, iteration) for one, other in pairs]
    size = _step_size(piece, costs)
    chosen = pairs[: _STEPS * size]
    path = piece.folder.with_name("triplets.jsonl")
    write_records(path, [_triplet(one.record, other.record) for one, other in chosen])
    section = piece.config.train.model_copy(update={"global_batch_size": size})
    config = piece.config.model_copy(update={"train": section})
    began = time.perf_counter()
    with threads_held(piece.threads):
        rates = _rates(piece, config, path, iteration)
    steps = sum(size / rate for rate in rates)
    done = sum(costs[: len(chosen)]) / len(chosen)
    fixed = max(time.perf_counter() - began - steps, 0.0)
    return harmonic_mean(rates[1:] or rates) * done, fixed


def _rates(piece: Piece, config: RunConfig, triplets: Path, iteration: int) -> list[float]:
    """Triplets a second of each step, as `tspin.train.process` makes them."""
    out = piece.folder.with_name("trained")
    job = TrainJob(
        config=config,
        model=str(piece.folder),
        triplets=triplets,
        iteration=iteration,
        out=out,
        checkpoints=out.with_name("checkpoints"),
    )
    examples = load_examples(
        triplets,
        piece.template,
        roles=roles_of(config.train, iteration),
        max_length=token_limit(str(piece.folder), config.model, config.prompt),
        over_long="drop",
        demonstration=config.train.demonstration,
    )
    args = trainer_arguments(job)
    policy = load_policy(
        job.model, config.model, device=args.device, trainable=True, lora=config.train.lora
    )
    passes = choose_passes(
        policy,
        examples.extremes(),
        pad_token_id=piece.template.pad_token_id,
        chunk_size=args.logps_chunk_size,
        device=args.device,
    )
    if needs_reference(args.method):
        key = reference_key(job.wanted(piece.template))
        cache = job.checkpoints / "reference.safetensors"
        examples.reference_logps = reference_logps(
            policy, examples, cache, key=key, passes=passes, args=args
        )
    trainer = TSPINTrainer(policy, args, examples, passes=passes)
    trainer.train()
    rows = [row for row in trainer.state.log_history if "loss" in row]
    return [row[f"{SPEED}triplets_per_second"] for row in rows]


def _decoding_rate(piece: Piece, examples: Sequence[Example]) -> float:
    """Operations a second of decoding as the engine transformers does it.

    Random weights end a response nowhere near where a policy would. So its length is that of an
    annotation, chosen by the first token that was drawn.
    """
    limit = piece.config.generate.max_new_tokens
    lengths = [min(one.annotated, limit) for one in examples]
    width = piece.config.system.generate_batch_size
    prompts = [tuple(one.prompt) for one in examples[: _GROUP * width]]
    prompts.sort(key=len, reverse=True)
    device = resolve_device(piece.config.system)
    policy = load_policy(str(piece.folder), piece.config.model, device=device, trainable=False)
    sampler = RowSampler(SamplingParams.of(piece.config.generate), range(len(prompts)), device)
    with threads_held(piece.threads):
        _decoded(piece, policy, prompts[:2], sampler, lambda emitted: len(emitted) > 1)
        began = time.perf_counter()
        emitted = _decoded(
            piece,
            policy,
            prompts,
            sampler,
            lambda row: (
                len(row) >= lengths[row[0] % len(lengths)] or time.perf_counter() - began > _SECONDS
            ),
        )
        taken = time.perf_counter() - began
    flops = piece.sizes.flops
    return (
        sum(
            flops.of_lengths(len(prompt), [len(row)], backward=False)
            for prompt, row in zip(prompts, emitted, strict=True)
        )
        / taken
    )


def _decoded(
    piece: Piece, policy: Any, prompts: list[tuple[int, ...]], sampler: RowSampler, ended: Any
) -> list[list[int]]:
    return decode(
        policy,
        prompts,
        width=piece.config.system.generate_batch_size,
        pad_token_id=piece.template.pad_token_id,
        sampler=sampler,
        ended=ended,
    )


def _cost(piece: Piece, one: Example, other: Example, iteration: int) -> float:
    train_section = piece.config.train
    beta = train_section.beta_at(iteration)
    others = 0 if train_section.method in SUPERVISED else 2 if beta > 0 else 1
    responses = [one.annotated, other.annotated + 1, other.annotated + 1][: 1 + others]
    flops = piece.sizes.passes(len(one.prompt), responses, backward=True)[1]
    if train_section.demonstration is None:
        return flops
    shown = with_demonstration(one.record, train_section.demonstration)
    taught = len(piece.template.record_prompt_ids(shown))
    return flops + piece.sizes.passes(taught, responses[1:])[1]


def _step_size(piece: Piece, costs: Sequence[float]) -> int:
    """Triplets a step, of as many as there are and time allows."""
    triplet = sum(costs) / len(costs)
    affordable = int(_SECONDS * _rough_rate(piece.threads) / triplet)
    most = min(piece.config.train.global_batch_size, len(costs) // _STEPS)
    return max(1, min(most, affordable // _STEPS))


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
