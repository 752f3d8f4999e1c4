"""Generation with drafts against the same without: `make bench-drafts`.

    TSPIN_GSM8K=train.jsonl python -m benchmarks.drafts --json drafts.json

One iteration of T-SPIN is trained for each learning rate, on the demo and on GSM8K. The policy that
comes of it then answers the same prompts with and without the responses of the initial policy as
drafts, both drawn with the same noise. Rounds alternate, in one process with one thread; processor
time is counted, and the median of the rounds' ratios is shown.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from transformers import PreTrainedModel

from benchmarks.small_model import small_model
from tspin.config import RunConfig
from tspin.demo.demo import write_demo
from tspin.engines import Completion, SamplingParams
from tspin.engines.transformers import TransformersEngine
from tspin.generate.drafts import opened_drafts
from tspin.generate.plan import ResponsePlan
from tspin.models.folder import find_model
from tspin.models.policy import load_policy
from tspin.records.records import AnnotatedRecord, Message, read_records, write_records
from tspin.seeds import derive_seed
from tspin.selfplay import run
from tspin.tokens.loading import load_template

Answers = dict[str, Completion]


@dataclass
class Round:
    """One answer to all prompts."""

    answers: Answers
    seconds: float
    passes: int


def main() -> None:
    """Measure what is asked for, print a table, write JSON."""
    options = _options()
    torch.set_num_threads(1)
    rows = []
    for setting, annotated, model, most in _settings(options):
        for rate in options.learning_rates:
            config = _config(options.folder / f"{setting}-{rate:g}", annotated, model, most, rate)
            config = config.model_copy(
                update={"system": config.system.model_copy(update={"threads": 1})}
            )
            run(config)
            for batch in options.batches:
                row = {"setting": setting, "learning_rate": rate, "batch": batch}
                rows.append(row | _measured(config, batch, options.rounds))
                print(json.dumps(rows[-1]), flush=True)
    _print_table(rows)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gsm8k", type=Path, default=os.environ.get("TSPIN_GSM8K"))
    parser.add_argument("--folder", type=Path, default=Path("build/bench-drafts"))
    parser.add_argument("--learning-rates", type=float, nargs="+", default=[1e-4, 1e-5, 2e-6])
    parser.add_argument("--batches", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--prompts", type=int, default=512, help="of each setting")
    parser.add_argument("--model-steps", type=int, default=600, help="of the model for GSM8K")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def _settings(options: argparse.Namespace) -> Iterator[tuple[str, Path, Path, int]]:
    """Name, annotated records, initial policy, and the most tokens of a response."""
    demo = options.folder / "demo-data"
    if not (demo / "base").is_dir():
        write_demo(demo)
    few = options.folder / "demo.jsonl"
    records = list(read_records(demo / "annotated.jsonl", AnnotatedRecord))
    write_records(few, records[: options.prompts])
    yield "demo", few, demo / "base", 96
    if options.gsm8k is None:
        return
    lines = [json.loads(line) for line in Path(options.gsm8k).read_text().splitlines()]
    pairs = [(line["question"], line["answer"]) for line in lines]
    model = small_model(options.folder / "gsm8k-model", pairs, steps=options.model_steps)
    few = options.folder / "gsm8k.jsonl"
    write_records(
        few,
        (
            AnnotatedRecord(id=str(at), messages=[Message(role="user", content=q)], response=a)
            for at, (q, a) in enumerate(pairs[: options.prompts])
        ),
    )
    yield "gsm8k", few, model, 256


def _config(folder: Path, annotated: Path, model: Path, most: int, rate: float) -> RunConfig:
    return RunConfig.model_validate(
        {
            "run_dir": str(folder),
            "iterations": 1,
            "model": {"path": str(model), "dtype": "float32"},
            "data": {"annotated": str(annotated)},
            "prompt": {"template": "instruction", "max_length": 1024},
            "generate": {"engine": "transformers", "max_new_tokens": most, "coupled": True},
            "train": {"epochs": 2, "learning_rate": rate, "global_batch_size": 16},
            "system": {"device": "cpu"},
        }
    )


def _measured(config: RunConfig, batch: int, rounds: int) -> dict[str, Any]:
    """What drafts bring, after a round to warm up."""
    plain, drafted, ratios = None, None, []
    for turn in range(rounds + 1):
        # There and back again, so that a machine that slows down slows both.
        for on in (False, True) if turn % 2 else (True, False):
            made = _round(config, batch, drafts=on)
            drafted, plain = (made, plain) if on else (drafted, made)
        if turn and plain and drafted:
            ratios.append(plain.seconds / drafted.seconds)
    if plain is None or drafted is None:
        raise ValueError("no round")
    before = _round_of_the_initial(config)
    tokens = sum(one.response_tokens for one in plain.answers.values())
    return {
        "times_as_fast": statistics.median(ratios),
        "ratios": ratios,
        "seconds": plain.seconds,
        "passes": plain.passes,
        "passes_with_drafts": drafted.passes,
        "tokens": tokens,
        "same_as_draft": statistics.fmean(
            one.text == before[name] for name, one in plain.answers.items()
        ),
        "equal_answers": statistics.fmean(
            one == plain.answers[name] for name, one in drafted.answers.items()
        ),
    }


def _round(config: RunConfig, batch: int, *, drafts: bool) -> Round:
    folder = Path(config.run_dir)
    path = str(folder / "iter-0" / "model")
    template = load_template(find_model(path, config.model), config.model, config.prompt)
    policy = load_policy(path, config.model, device=torch.device("cpu"), trainable=False)
    engine = TransformersEngine(policy, template, batch_size=batch)
    plan = ResponsePlan.of(
        read_records(Path(config.data.annotated), AnnotatedRecord),
        template,
        seed_of=lambda record: derive_seed(config.seed, "synthetic", 0, record),
        max_prompt=1024 - config.generate.max_new_tokens,
        over_long="drop",
    )
    with (
        opened_drafts(folder / "proto.jsonl" if drafts else None, template) as draft_of,
        _counted(cast(PreTrainedModel, policy)) as passes,
    ):
        begin = time.process_time()
        groups = list(
            engine.generate(plan.requests((), draft_of), SamplingParams.of(config.generate))
        )
        seconds = time.process_time() - begin
    return Round({one.id: one for group in groups for one in group}, seconds, len(passes))


def _round_of_the_initial(config: RunConfig) -> dict[str, str]:
    lines = (Path(config.run_dir) / "proto.jsonl").read_text().splitlines()
    return {row["id"]: row["response"] for row in map(json.loads, lines)}


@contextmanager
def _counted(model: PreTrainedModel) -> Iterator[list[None]]:
    passes: list[None] = []
    hook = model.register_forward_pre_hook(lambda *_: passes.append(None))
    yield passes
    hook.remove()


def _print_table(rows: Sequence[dict[str, Any]]) -> None:
    print("| setting | learning rate | batch | same as draft | passes | with drafts | time |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for row in rows:
        low, high = min(row["ratios"]), max(row["ratios"])
        print(
            f"| {row['setting']} | {row['learning_rate']:g} | {row['batch']} "
            f"| {row['same_as_draft']:.0%} | {row['passes']:,} | {row['passes_with_drafts']:,} "
            f"| {row['times_as_fast']:.2f} ({low:.2f} to {high:.2f}) |"
        )


if __name__ == "__main__":
    main()
