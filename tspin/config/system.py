"""How the work of a run is spread over a machine: the section `system`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from tspin.config.strict import Location, Strict

__all__ = ["SystemConfig"]


class SystemConfig(Strict):
    """How the work is spread over this machine.

    Never changes what is computed but for rounding, so it may change between a run and its
    continuation.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto is a GPU where torch sees one."""
    num_processes: int | Literal["auto"] = "auto"
    """Training processes on this node; auto is one a GPU, or one on a CPU."""
    threads: Annotated[int, Field(gt=0)] | Literal["auto"] = "auto"
    """Of each process that computes on a CPU; equal bytes need equal numbers. auto is what the run,
    the work that is continued, or its inputs were begun with; at the beginning OMP_NUM_THREADS, or
    the cores shared out over the training processes."""
    tokens_per_device: int = Field(8192, gt=0)
    """Tokens a forward pass on one device: prompts, each once, and all responses to them. A larger
    triplet still runs, alone. How many triplets a step has is train.global_batch_size."""
    generate_batch_size: int = Field(32, gt=0)
    """Prompts a batch."""
    drafts: bool = True
    """With the engine transformers, coupled or greedy responses of the iteration before are drafts
    of the next ones: of what comes true, several tokens are computed in one pass."""
    logps_chunk_size: int = Field(1024, gt=0)
    """Response positions whose logits are made at one time."""
    shard: Literal["auto", "on", "off"] = "auto"
    """Spread weights, gradients and the optimiser's state over the training processes (FSDP2). auto
    does where there are several and a training would not fit their memory otherwise. Evaluations
    share the weights likewise, where the policy does not fit one GPU."""
    shard_over: Literal["node", "all"] = "node"
    """The processes that share one copy of the weights: those of a node, each node then having a
    copy of its own, or those of all nodes."""
    offload: bool = False
    """Keep the shards in the host's memory between their uses: slower, with less of the GPU's."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass: slower, with less memory."""
    checkpoint_steps: int = Field(100, gt=0)
    """Optimiser steps between two checkpoints, at most."""
    checkpoint_minutes: float | None = Field(15.0, gt=0)
    """Minutes of training between two checkpoints, at most: what losing a machine costs. None
    counts steps only."""
    checkpoints: Location | None = None
    """Where trainings keep their checkpoints, each below a name of its own: a folder that outlives
    the machine, or `s3://bucket/prefix`, where they are copied to. None keeps them beside the
    model that is trained."""
    report_to: tuple[str, ...] = ()
    """Trackers: mlflow, and those that transformers knows (wandb, tensorboard, dvclive ...)."""
    metrics_port: int | None = Field(None, ge=0, le=65535)
    """Port on which `run`, `generate`, `train` and `evaluate` answer Prometheus while they work, on
    all of the machine's addresses; 0 takes any that is free. None opens none."""
    evaluate_beside: bool = False
    """Evaluate a policy in a process of its own while `tspin run` plays the next iteration, on GPUs
    that the loop then does without, or beside it on a CPU. false shares an evaluation out over all
    GPUs, and the next iteration waits for it."""
    speculate: bool = True
    """Let the next policy generate while the gate is still waiting for its evaluation, in vain
    where that stops the run; false waits. Without gate.margin nothing waits."""

    @field_validator("shard", mode="before")
    @classmethod
    def _yaml_takes_on_and_off_for_booleans(cls, value: Any) -> Any:
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else value
