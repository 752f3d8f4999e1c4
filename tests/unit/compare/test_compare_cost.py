"""The cost of a run, worked out from its tokens by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from tspin.compare.cost import Meter
from tspin.config import RunConfig
from tspin.models.policy import load_tokenizer
from tspin.records.records import AnnotatedRecord, Message, Response, Triplet, write_records
from tspin.runs.folder import RunFolder
from tspin.tokens.prompts import PromptTemplate

PROMPT, Y, Y1 = "Name a city.", "A city is Paris.", "So is Athens"


@pytest.fixture
def config(tmp_path: Path, tiny_model_dir: Path) -> RunConfig:
    return RunConfig.model_validate(
        {
            "run_dir": str(tmp_path / "run"),
            "model": {"path": str(tiny_model_dir)},
            "data": {"annotated": str(tmp_path / "a.jsonl")},
            "prompt": {"template": "instruction", "max_length": 256},
            "generate": {"max_new_tokens": 32},
            "train": {"epochs": 3, "method": "spin"},
        }
    )


def forward(model: Path, prompt: int, responses: list[int], passes: int = 1) -> float:
    """2 a weight and token, the head for predicted tokens, 4 * width * layers a pair."""
    weights = dict(AutoModelForCausalLM.from_pretrained(model).named_parameters())
    outer = ("model.embed_tokens.weight", "lm_head.weight")
    body = sum(each.numel() for name, each in weights.items() if name not in outer)
    head = weights["lm_head.weight"].numel()
    pairs = sum(range(1, prompt + 1))
    for length in responses:
        pairs += sum(prompt + at for at in range(1, length + 1))
    linear = body * (prompt + sum(responses)) + head * sum(responses)
    return passes * (2 * linear + 4 * 32 * 2 * pairs)


def test_a_run_costs_generation_reference_and_training(
    config: RunConfig, tmp_path: Path, tiny_model_dir: Path
) -> None:
    template = PromptTemplate.load(load_tokenizer(str(tiny_model_dir), config.model), "instruction")
    message = [Message(role="user", content=PROMPT)]
    prompt = len(template.prompt_ids(message))
    y, y1 = (len(template.response_ids(text)) for text in (Y, Y1))
    folder = RunFolder(tmp_path / "run")
    made = folder.iteration(0)
    write_records(tmp_path / "a.jsonl", [AnnotatedRecord(id="1", messages=message, response=Y)])
    response = Response(
        id="1",
        response=Y1,
        finish_reason="stop",
        prompt_tokens=prompt,
        response_tokens=y1 - 1,
        seed=0,
    )
    write_records(made.synthetic, [response])
    triplet = Triplet(id="1", messages=message, annotated=Y, synthetic=Y1, proto_synthetic=Y1)
    write_records(made.triplets, [triplet])

    meter = Meter(config)
    cost = meter.run(config, folder, tmp_path / "a.jsonl", 1)
    assert cost.generated_tokens == y1 - 1
    assert cost.trained_tokens == 3 * (prompt + y + y1)
    generation = forward(tiny_model_dir, prompt, [y1])
    reference = forward(tiny_model_dir, prompt, [y, y1])
    training = 3 * forward(tiny_model_dir, prompt, [y, y1], passes=3)
    assert cost.flops == pytest.approx(generation + reference + training)

    epoch = meter.epoch(config, tmp_path / "a.jsonl")
    assert epoch.trained_tokens == prompt + y
    assert epoch.flops == pytest.approx(forward(tiny_model_dir, prompt, [y], passes=3))
