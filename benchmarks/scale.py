"""A run of many annotated pairs, stage by stage: `make bench BENCHMARK=scale`.

    python -m benchmarks.scale --rows 25000 --rows 200000 --json build/bench/scale.json

The model has one layer and the engine is `fake`, so that what is left is what a run does besides:
reading and writing records, tokenising, joining, cutting into steps, checking, reporting. Each
stage is the command of its own that `dvc repro` runs. Memory is the peak of that process.
"""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import torch
import typer
import yaml
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from benchmarks.commands import Taken, measured
from benchmarks.markdown import replace_section, table
from tspin.demo.demo import BASE as DEMO_BASE

ITERATIONS = 5
ROWS = (25_000, 200_000)
_WORDS = ("a", "city", "of", "twelve", "apples", "has", "more", "than", "one", "answer", "so", "we")


def main(
    rows: Annotated[list[int], typer.Option(help="Annotated pairs; repeatable.")] = [*ROWS],  # noqa: B006
    json_file: Annotated[Path | None, typer.Option("--json", help="Write figures here.")] = None,
    document: Annotated[
        Path | None, typer.Option(help="Write the table into this file's section `scale`.")
    ] = None,
    keep: Annotated[Path | None, typer.Option(help="Keep the largest run in this folder.")] = None,
) -> None:
    """Measure runs of growing size, and say how each stage grows."""
    found: dict[int, dict[str, Taken]] = {}
    for count in sorted(rows):
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            prepare(folder, count)
            found[count] = stages(folder, lambda name, taken: print(f"{name}: {taken}", flush=True))
            page = (folder / "runs/scale/report.html").stat().st_size
            print(f"{count:,} pairs: a report of {page / 1e6:.2f} MB")
            if keep is not None and count == max(rows):
                shutil.copytree(folder, keep, dirs_exist_ok=True)
    text = shown(found)
    print(text)
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        plain = {count: {k: asdict(v) for k, v in all_.items()} for count, all_ in found.items()}
        json_file.write_text(json.dumps(plain, indent=1))
    if document is not None:
        replace_section(document, "scale", text)


def prepare(folder: Path, count: int, iterations: int = ITERATIONS) -> None:
    """Conversations to import, a model of one layer, a configuration.

    Args:
        folder: Where they go.
        count: Of the conversations.
        iterations: Of the configuration.
    """
    draw = random.Random(0)
    with (folder / "source.jsonl").open("w") as file:
        for number in range(count):
            asked = f"{number}: {' '.join(draw.choices(_WORDS, k=draw.randint(5, 15)))}?"
            answer = " ".join(draw.choices(_WORDS, k=draw.randint(3, 20)))
            turns = [("user", asked), ("assistant", answer)]
            messages = [{"role": role, "content": text} for role, text in turns]
            file.write(json.dumps({"messages": messages}) + "\n")
    tokenizer = AutoTokenizer.from_pretrained(DEMO_BASE)
    tokenizer.save_pretrained(folder / "base")
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=1,
        max_position_embeddings=512,
    )
    LlamaForCausalLM(shape).save_pretrained(folder / "base")  # type: ignore[no-untyped-call]
    config = {
        "run_dir": "runs/scale",
        "iterations": iterations,
        "model": {"path": "base"},
        "data": {"annotated": "annotated.jsonl"},
        "prompt": {"template": "instruction", "max_length": 512},
        "generate": {"engine": "fake", "max_new_tokens": 64},
        "train": {"epochs": 1, "global_batch_size": 1024},
        "system": {"tokens_per_device": 32768, "threads": torch.get_num_threads()},
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(config))


def stages(
    folder: Path, tell: Callable[[str, Taken], None], iterations: int = ITERATIONS
) -> dict[str, Taken]:
    """Run all stages of all iterations.

    Args:
        folder: As `prepare` leaves it.
        tell: Called with the name of each stage that has run, and what it took.
        iterations: As the configuration has them.

    Returns:
        By name of the stage; its seconds are those of all iterations.
    """
    config, run = ["--config", "run.yaml"], "runs/scale"
    annotated = ["--annotated", "annotated.jsonl"]
    found: dict[str, Taken] = {}

    def stage(name: str, *arguments: str) -> None:
        taken = measured(arguments, folder, folder / "log.txt")
        so_far = found.get(name, Taken(0, 0, 0))
        found[name] = Taken(
            so_far.wall + taken.wall, so_far.cpu + taken.cpu, max(so_far.peak, taken.peak)
        )
        tell(name, taken)

    stage("import", "data", "import", "source.jsonl", "--out", "annotated.jsonl")
    model, proto = "base", f"{run}/proto.jsonl"
    stage("generate", "generate", *config, "--model", model, *annotated, "--out", proto)
    for t in range(iterations):
        here = f"{run}/iter-{t}"
        synthetic, triplets = f"{here}/synthetic.jsonl", f"{here}/triplets.jsonl"
        number = ["--iteration", str(t)]
        if t:
            out = ["--out", synthetic]
            stage("generate", "generate", *config, "--model", model, *annotated, *out, *number)
        drawn = ["--synthetic", synthetic if t else proto, "--proto", proto]
        stage("build-triplets", "build-triplets", *config, *annotated, *drawn, "--out", triplets)
        trained = ["--triplets", triplets, "--out", f"{here}/model"]
        stage("train", "train", *config, "--model", model, *trained, *number)
        model = f"{here}/model"
    stage("finish", "finish", *config)
    stage("report", "report", run)
    return found


def shown(found: dict[int, dict[str, Taken]]) -> str:
    """One row a stage: its share of the largest run, and how it grew from the smallest."""
    few, many = min(found), max(found)
    total = sum(taken.cpu for taken in found[many].values())
    rows = []
    for name, large in found[many].items():
        small = found[few][name]
        cells = [f"{large.cpu:.1f}", f"{large.cpu / total:.0%}", f"{large.peak:,.0f}"]
        cells += [f"{small.cpu:.1f}", f"{small.peak:,.0f}"]
        rows.append([f"`{name}`", *cells])
    header = ["stage", f"{many:,} pairs: CPU seconds", "share", "peak MiB"]
    header += [f"{few:,} pairs: CPU seconds", "peak MiB"]
    return table(header, rows)


if __name__ == "__main__":
    typer.run(main)
