"""Who answers the prompts in the benchmark of generation: ours, transformers, vLLM."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tspin.config import (
    DataConfig,
    GenerateConfig,
    ModelConfig,
    PromptConfig,
    RunConfig,
    SystemConfig,
)
from tspin.engines import Engine, SamplingParams, open_engine
from tspin.generate.responses import write_responses
from tspin.models.policy import load_tokenizer
from tspin.records.records import AnnotatedRecord, Response, read_records
from tspin.tokens.prompts import PromptTemplate

__all__ = ["BATCH", "Contender", "transformers_contenders", "vllm_contenders"]

BATCH = 16
SAMPLING = SamplingParams(temperature=1.0, top_p=1.0, max_new_tokens=256)
Contender = Callable[[], int]
"""Answers all prompts once; returns the number of tokens that it emitted."""


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
            responses = list(read_records(out, Response))
        return sum(one.response_tokens + (one.finish_reason == "stop") for one in responses)

    return run


def transformers_contenders(path: str, records: Sequence[AnnotatedRecord]) -> dict[str, Contender]:
    """Ours and batched `generate` of transformers."""
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


@contextmanager
def vllm_contenders(
    path: str, records: Sequence[AnnotatedRecord]
) -> Iterator[dict[str, Contender]]:
    """Ours and vLLM itself, with the same arguments; their engines live for the block."""
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
        yield {
            "ours": _ours(engine, config, records),
            "LLM.generate, prompts to texts": _raw(raw, template, records),
            "LLM.generate, token ids to token ids": _bare(raw, template, records),
        }


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
