"""What a run takes, worked out by hand: the paper's setting at 7B, and a run as it really was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import MistralConfig, PreTrainedTokenizerFast

from tspin.compare.cost import Meter
from tspin.config import RunConfig
from tspin.errors import InputError
from tspin.harness.lengths import RequestLengths, TaskLengths
from tspin.harness.requests import PRESETS
from tspin.models.policy import load_tokenizer
from tspin.planning import lengths as reading
from tspin.planning.devices import find_device
from tspin.planning.lengths import DataLengths, RecordLengths, data_lengths
from tspin.planning.places import Place
from tspin.planning.plan import plan_run
from tspin.planning.sizes import Sizes
from tspin.planning.speed import Stated
from tspin.planning.where import Target
from tspin.planning.work import Stage, Work, run_stages
from tspin.records.records import (
    AnnotatedRecord,
    FurtherSample,
    Message,
    Response,
    Triplet,
    write_records,
)
from tspin.runs.folder import RunFolder
from tspin.tokens.prompts import PromptTemplate

PROMPTS, EPOCHS, PROMPT, RESPONSE = 50_000, 2, 200, 300
"""Of the published run: arXiv 2601.08198, 50k of Ultrachat200k, two epochs; lengths are ours."""

# Mistral-7B: 32 layers; q and o 4096 x 4096, k and v 4096 x 1024 (8 of 32 heads), gate, up and
# down 4096 x 14336, two norms; one norm at the end.
BODY = 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336 + 2 * 4096) + 4096
HEAD = 4096 * 32_000
PARAMETERS = BODY + 2 * HEAD
H100, UTILISATION, GPUS = 989e12, 0.4, 8


@pytest.fixture(scope="module")
def mistral(
    tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: PreTrainedTokenizerFast
) -> Path:
    """The configuration of Mistral-7B, without weights."""
    folder = tmp_path_factory.mktemp("mistral")
    MistralConfig().save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    (folder / "model.safetensors").write_bytes(b"never read")
    return folder


def configuration(model: Path, **sections: object) -> RunConfig:
    values: dict[str, object] = {
        "run_dir": "unused",
        "iterations": 2,
        "model": {"path": str(model), "dtype": "bfloat16"},
        "data": {"annotated": "unused"},
        "train": {"epochs": EPOCHS},
        "system": {"device": "cuda", "shard": "off"},
    }
    return RunConfig.model_validate(values | sections)


@pytest.fixture(scope="module")
def published(mistral: Path) -> tuple[RunConfig, Sizes, dict[tuple[str, int | None], Stage]]:
    config = configuration(mistral)
    sizes = Sizes.of(config)
    data = DataLengths(PROMPTS, 1, [RecordLengths(PROMPT, RESPONSE, 1_200, 1_500, 4_500)])
    stages = run_stages(config, sizes, data, None)
    return config, sizes, {(one.kind, one.iteration): one for one in stages}


def test_an_iteration_at_7b_trains_for_25_minutes_on_8_gpus(published) -> None:
    config, sizes, stages = published
    assert sizes.shape.parameters == PARAMETERS == 7_241_732_096
    train = stages["train", 1].expected
    # y, y' and y0 after one prompt: 1,100 tokens a triplet, 110 million in two epochs.
    tokens = PROMPTS * EPOCHS * (PROMPT + 3 * RESPONSE)
    assert train.trained_tokens == tokens == 110_000_000
    # 6 P T: 2 P forward, 4 P backward, for each token.
    assert train.training_flops == pytest.approx(6 * PARAMETERS * tokens, rel=0.03)
    # To the last: the embedding multiplies nothing, the head only what is predicted; attention
    # takes 4 operations a pair, number of a head's width and layer, three times over.
    pairs = PROMPT * (PROMPT + 1) / 2 + 3 * (RESPONSE * PROMPT + RESPONSE * (RESPONSE + 1) / 2)
    predicted = PROMPTS * EPOCHS * 3 * RESPONSE
    exact = 6 * (BODY * tokens + HEAD * predicted) + 12 * 4096 * 32 * PROMPTS * EPOCHS * pairs
    assert train.training_flops == pytest.approx(exact)
    speed = Stated(config, sizes, find_device("h100"), UTILISATION, vllm=True)
    seconds = speed.seconds(train, GPUS)
    assert seconds == pytest.approx(exact / (GPUS * H100 * UTILISATION))
    assert 24 < seconds / 60 < 26
    # Without y0, which iteration 0 has not: 800 tokens a triplet.
    assert stages["train", 0].expected.trained_tokens == PROMPTS * EPOCHS * 800
    assert train.steps == EPOCHS * 782  # 50,000 / 64, and what is left over.


def test_several_samples_are_generated_and_share_their_prompt(mistral: Path, published) -> None:
    config = configuration(mistral, generate={"samples": 4})
    data = DataLengths(PROMPTS, 1, [RecordLengths(PROMPT, RESPONSE, 1_200, 1_500, 4_500)])
    planned = run_stages(config, published[1], data, None)
    stages = {(one.kind, one.iteration): one for one in planned}
    train, one = stages["train", 1].expected, published[2]["train", 1].expected
    # y, four y' and y0 after one prompt.
    assert train.trained_tokens == PROMPTS * EPOCHS * (PROMPT + 6 * RESPONSE)
    assert train.steps == one.steps
    work, one = stages["generate", 1].expected, published[2]["generate", 1].expected
    assert (work.responses, work.generated_tokens) == (4 * PROMPTS, 4 * one.generated_tokens)
    assert stages["triplets", 1].expected.written == PROMPTS * (4_500 + 3 * 1_200)


def test_generation_at_7b_reads_the_weights_for_every_token_of_a_batch(published) -> None:
    config, sizes, stages = published
    work = stages["generate", 1].expected
    assert work.generated_tokens == PROMPTS * (RESPONSE - 1)
    assert work.generation_flops == pytest.approx(
        2 * PARAMETERS * PROMPTS * (PROMPT + RESPONSE), rel=0.05
    )
    speed = Stated(config, sizes, find_device("h100"), UTILISATION, vllm=True)
    assert speed.batch(work, GPUS) == 256
    # Keys and values of 8 heads of 128 numbers, in 32 layers, 2 bytes each.
    cached = 2 * 32 * 8 * 128 * 2 * (PROMPT + (RESPONSE - 1) / 2)
    step = (2 * PARAMETERS + 256 * cached) / (3.35e12 * 0.5)
    pairs = PROMPT * (PROMPT + 1) / 2
    prefill = (2 * BODY * PROMPT + 4 * 4096 * 32 * pairs) * PROMPTS / (H100 * UTILISATION)
    seconds = (PROMPTS * RESPONSE / 256 * step + prefill) / GPUS
    assert speed.seconds(work, GPUS) == pytest.approx(seconds)
    one = Stated(config, sizes, find_device("h100"), UTILISATION, vllm=False)
    assert one.batch(work, GPUS) == config.system.generate_batch_size == 32
    assert one.seconds(work, GPUS) > GPUS * seconds, "the engine transformers uses one GPU"


# Questions, choices of each (0: an answer is generated), tokens of a question with its few-shot
# examples, of an answer, and of the longest. Questions as published, tokens rounded up by hand.
PAPER_TASKS = {
    "gsm8k": (1_319, 0, 1_000, 150, 256),
    "leaderboard_math_hard": (1_324, 0, 1_000, 300, 1_024),
    "leaderboard_musr": (756, 3.4, 1_400, 10, 0),
    "mmlu": (14_042, 4, 900, 1, 0),
    "leaderboard_mmlu_pro": (12_032, 9.5, 1_700, 1, 0),
    "leaderboard_gpqa": (1_192, 4, 350, 20, 0),
    "hellaswag": (10_042, 4, 1_100, 25, 0),
    "winogrande": (1_267, 2, 200, 15, 0),
    "leaderboard_bbh": (5_761, 5, 1_300, 5, 0),
    "leaderboard_ifeval": (541, 0, 80, 400, 1_280),
}


def test_a_tenth_of_the_papers_tasks_takes_minutes_on_8_gpus(mistral: Path, published) -> None:
    assert {task.name for task in PRESETS["paper-quick"]} == PAPER_TASKS.keys()
    tasks = []
    for request in PRESETS["paper-quick"]:
        questions, choices, prompt, response, most = PAPER_TASKS[request.name]
        asked = round(questions * request.fraction * (choices or 1))
        lengths = (RequestLengths(prompt, response, most),)
        tasks.append(TaskLengths(request.name, asked, lengths))
    config, sizes = configuration(mistral), published[1]
    data = DataLengths(1_000, 1, [RecordLengths(PROMPT, RESPONSE, 1_200, 1_500, 4_500)])
    evaluation = run_stages(config, sizes, data, data, tasks)[-1]
    assert evaluation.kind == "evaluate"
    scored = sum(one.requests * (one.lengths[0].prompt + 1) for one in tasks)
    assert evaluation.expected.scored_tokens > scored > 25e6
    speed = Stated(config, sizes, find_device("h100"), UTILISATION, vllm=True)
    shares = [work.part(GPUS) for work in (evaluation.expected, evaluation.most)]
    expected, most = (speed.seconds(share, 1) / 60 for share in shares)
    assert 2 < expected < 5
    assert expected < most < 15


def test_at_most_every_response_goes_to_the_limit(published) -> None:
    config, _, stages = published
    new = config.generate.max_new_tokens
    assert stages["generate", 1].most.generated_tokens == PROMPTS * new
    most = stages["train", 1].most.trained_tokens
    assert most == PROMPTS * EPOCHS * (PROMPT + RESPONSE + 2 * new)


def test_what_is_kept_at_7b(published) -> None:
    _, sizes, stages = published
    assert stages["train", 1].expected.written == sizes.model_bytes
    assert sizes.model_bytes - sizes.files == 4 * PARAMETERS
    # Weights, and the one state of RMSProp; AdamW has two.
    assert sizes.checkpoint_bytes("rmsprop") - sizes.files == 8 * PARAMETERS
    assert sizes.checkpoint_bytes("adamw") - sizes.files == 12 * PARAMETERS
    assert stages["proto", 0].expected.written == 2 * PROMPTS * 1_500, "y0, and as y' once more"
    assert stages["triplets", 1].expected.written == PROMPTS * 4_500
    # At most both of the policy's texts of 1,200 bytes are 1,024 tokens long, not 300.
    longer = PROMPTS * 2 * 1_200 * 724 / 300
    assert stages["triplets", 1].most.written == pytest.approx(PROMPTS * 4_500 + longer)


def test_an_adapter_trains_with_two_thirds_and_keeps_little(mistral: Path) -> None:
    config = configuration(mistral, train={"epochs": EPOCHS, "lora": {"r": 16}})
    sizes = Sizes.of(config)
    data = DataLengths(PROMPTS, 1, [RecordLengths(PROMPT, RESPONSE)])
    train = run_stages(config, sizes, data, None)[-1].expected
    assert train.training_flops == pytest.approx(4 * PARAMETERS * 110_000_000, rel=0.04)
    assert sizes.model_bytes - sizes.files < 0.01 * 4 * PARAMETERS


def test_the_whole_plan_with_a_price_and_without_room(mistral: Path, tmp_path: Path) -> None:
    data = tmp_path / "a.jsonl"
    texts = [("Name a city.", "A city is Paris."), ("How many?", "12 and 34 are 46.")]
    write_records(data, [record(str(at), *pair) for at, pair in enumerate(texts)])
    config = configuration(mistral, data={"annotated": str(data)})
    place = Place("nvidia-h100-80gb", 8, price=3.0)
    places = {"generate": Place("nvidia-l4"), "train": place, "evaluate": place}
    plan = plan_run(config, Target.of(config, places=places), utilisation=0.2)
    train = [one for one in plan.stages if one.stage.kind == "train"]
    assert [one.expected.gpu_hours for one in train] == [
        pytest.approx(one.stage.expected.flops / (0.2 * H100 * 3600)) for one in train
    ]
    hours = sum(one.expected.gpu_hours for one in train)
    assert plan.total().money == pytest.approx(3.0 * hours)
    assert plan.total().gpu_hours > hours
    assert train[0].memory > 80 * 2**30  # All of the weights, gradients and states on each.
    assert plan.disk > 2 * 4 * PARAMETERS + 8 * PARAMETERS


A, B, C = "12 and 34 are 46.", "34 and 12 are 46.", "46 and 12 are 34."
D = "12 and 46 are 34."


def record(identity: str, prompt: str, response: str) -> AnnotatedRecord:
    messages = [Message(role="user", content=prompt)]
    return AnnotatedRecord(id=identity, messages=messages, response=response)


@pytest.mark.parametrize("method", ["tspin", "tspin_all", "tspin_ref", "spin", "sdft", "sft"])
def test_a_plan_says_what_a_run_of_such_lengths_has_cost(
    method: str, tmp_path: Path, tiny_model_dir: Path
) -> None:
    sections = {
        "iterations": 3,
        "data": {"annotated": str(tmp_path / "a.jsonl")},
        "prompt": {"template": "instruction", "max_length": 256},
        "generate": {"max_new_tokens": 32},
        "train": {"epochs": 3, "method": method},
    }
    config = configuration(tiny_model_dir, **sections)
    template = PromptTemplate.load(load_tokenizer(str(tiny_model_dir), config.model), "instruction")
    tokens = {len(template.response_ids(text)) for text in (A, B, C, D)}
    assert len(tokens) == 1, "the policy's responses are as long as the annotation"
    prompts = {"1": "Name a city.", "2": "How many apples are 12 and 34?"}
    records = [record(identity, prompt, A) for identity, prompt in prompts.items()]
    write_records(tmp_path / "a.jsonl", records)
    folder = RunFolder(tmp_path / "run")
    earlier = {"earlier_synthetic": [FurtherSample(response=D)]} if method == "tspin_all" else {}
    for number, (y1, y0, between) in enumerate([(B, B, {}), (B, C, {}), (B, C, earlier)]):
        write_iteration(folder, number, records, template, y1, y0, **between)
    real = Meter(config).run(config, folder, tmp_path / "a.jsonl", 3)
    annotated, _ = data_lengths(config, tmp_path / "a.jsonl", None)
    stages = run_stages(config, Sizes.of(config), annotated, None)
    planned = sum((stage.expected for stage in stages), Work())
    assert planned.generated_tokens == real.generated_tokens
    assert planned.trained_tokens == real.trained_tokens
    assert planned.flops == pytest.approx(real.flops)
    triplets = [one.expected.written for one in stages if one.kind == "triplets"]
    if method != "sft":
        size = folder.iteration(1).triplets.stat().st_size
        assert triplets[:2] == [size, size]
        last = folder.iteration(2).triplets.stat().st_size
        # A text, without what stands around it in the file.
        assert triplets[2] == size + (len(records) * len(f'"{D}"') if earlier else 0) <= last


def write_iteration(
    folder: RunFolder,
    number: int,
    records: list[AnnotatedRecord],
    template: PromptTemplate,
    y1: str,
    y0: str,
    **between: Any,
) -> None:
    made = folder.iteration(number)
    responses = [
        Response(
            id=one.id,
            response=y1,
            finish_reason="stop",
            prompt_tokens=len(template.record_prompt_ids(one)),
            response_tokens=len(template.response_ids(y1)) - 1,
            seed=0,
        )
        for one in records
    ]
    write_records(made.synthetic, responses)
    triplets = [
        Triplet(
            id=one.id,
            messages=one.messages,
            annotated=A,
            synthetic=y1,
            proto_synthetic=y0,
            **between,
        )
        for one in records
    ]
    write_records(made.triplets, triplets)


def test_of_many_records_some_stand_for_all(
    tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jsonl"
    rows = [record(str(at), "Name a city.", "A city is Paris. " * (at % 7 + 1)) for at in range(90)]
    write_records(path, rows)
    config = configuration(
        tiny_model_dir,
        prompt={"template": "instruction", "max_length": 256},
        generate={"max_new_tokens": 32},
    )
    whole, _ = data_lengths(config, path, None)
    monkeypatch.setattr(reading, "TOKENISED", 20)
    some, _ = data_lengths(config, path, None)
    assert (whole.records, whole.tokenised, whole.sampled) == (90, 90, False)
    assert (some.records, some.tokenised, some.sampled) == (90, 18, True)
    totals = [sum(one.annotated for one in each.lengths) * each.each for each in (whole, some)]
    assert totals[1] == pytest.approx(totals[0], rel=0.1)


def test_records_that_a_run_would_drop_or_refuse(tmp_path: Path, tiny_model_dir: Path) -> None:
    path = tmp_path / "a.jsonl"
    long = "A city is Paris. " * 40
    rows = [("short", A, A), ("long response", A, long), ("long prompt", long, A)]
    write_records(path, [record(*row) for row in rows])
    sections = {
        "prompt": {"template": "instruction", "max_length": 128, "over_long": "drop"},
        "generate": {"max_new_tokens": 32},
    }
    lengths, heldout = data_lengths(configuration(tiny_model_dir, **sections), path, path)
    # The second is answered, and then left out of the training.
    assert [one.fits for one in lengths.lengths] == [True, False]
    assert heldout is not None
    sections["prompt"] = {"template": "instruction", "max_length": 128}
    with pytest.raises(InputError, match=r"a\.jsonl:2: record 'long response' needs [\d,]+ tokens"):
        data_lengths(configuration(tiny_model_dir, **sections), path, None)
