"""The command line of the benchmark of training steps."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import torch
import typer

from benchmarks.training.benchmark import Benchmark
from benchmarks.training.gsm8k import GSM8K
from benchmarks.training.lengths import PROFILES
from benchmarks.training.models import SHAPES
from benchmarks.training.quiet import quiet

__all__ = ["run"]

ALL = "all"


def run(
    profile: Annotated[
        list[str], typer.Option(help=f"{', '.join(PROFILES)}, {GSM8K} or {ALL}; repeatable.")
    ] = [ALL],  # noqa: B006  # typer copies it
    rounds: Annotated[int, typer.Option(min=1, help="How often each contender trains.")] = 5,
    batch: Annotated[int, typer.Option(min=1, help="Triplets (pairs) an optimiser step.")] = 4,
    json: Annotated[Path | None, typer.Option(help="Write all figures here.")] = None,
    document: Annotated[
        Path | None, typer.Option(help="Write the tables into this Markdown file's sections.")
    ] = None,
    device: Annotated[Literal["cpu", "cuda"], typer.Option()] = "cpu",
    dtype: Annotated[Literal["float32", "bfloat16"], typer.Option()] = "float32",
    model_size: Annotated[str, typer.Option(help=", ".join(SHAPES))] = "20m",
    lora: Annotated[bool, typer.Option("--lora", help="Adapters instead of all weights.")] = False,
    tokens: Annotated[
        int | None, typer.Option(min=1, help="tspin's tokens a forward pass; its default if unset.")
    ] = None,
    gsm8k: Annotated[
        Path | None, typer.Option(envvar="TSPIN_GSM8K", help="GSM8K's train.jsonl.")
    ] = None,
    scaling: Annotated[
        bool, typer.Option("--scaling", help="Also steps of 1k to 16k tokens.")
    ] = False,
    longest_batch: Annotated[
        bool, typer.Option("--longest-batch", help="Also the most triplets in one pass of a GPU.")
    ] = False,
) -> None:
    """Time and memory of a training step here and in TRL's DPOTrainer, side by side.

    All contenders take turns in one process, on the same model, the same y and y', the same
    optimiser; on a CPU processor time of one thread counts. Peak memory is measured in a process
    for each contender.
    """
    names = _profiles(profile, gsm8k)
    if model_size not in SHAPES:
        raise typer.BadParameter(f"'{model_size}' is none of {', '.join(SHAPES)}")
    if device == "cuda" and not torch.cuda.is_available():
        raise typer.BadParameter("'cuda', but torch sees no GPU here", param_hint="--device")
    if longest_batch and device == "cpu":
        raise typer.BadParameter("needs --device cuda: a CPU's memory is the machine's")
    quiet()
    if device == "cpu":
        torch.set_num_threads(1)
    path = None if gsm8k is None else str(gsm8k.resolve())
    with Benchmark(model_size, device, dtype, lora, tokens, path, json, document) as benchmark:
        for name in names:
            benchmark.profile(name, batch, rounds)
            if longest_batch:
                benchmark.longest_batch(name)
        if scaling:
            benchmark.growth(rounds)


def _profiles(asked: list[str], gsm8k: Path | None) -> list[str]:
    known = [*PROFILES, GSM8K]
    unknown = [name for name in asked if name not in (*known, ALL)]
    if unknown:
        raise typer.BadParameter(
            f"'{unknown[0]}' is none of {', '.join([*known, ALL])}", param_hint="--profile"
        )
    names = known if ALL in asked else list(dict.fromkeys(asked))
    if GSM8K in names and not (gsm8k and os.access(gsm8k, os.R_OK)):
        typer.echo(f"{GSM8K}: skipped, --gsm8k or TSPIN_GSM8K names no readable train.jsonl")
        names.remove(GSM8K)
    return names
