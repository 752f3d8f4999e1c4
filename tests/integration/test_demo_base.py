import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from tspin.demo.corpus import corpus_head
from tspin.demo.demo import BASE
from tspin.demo.pretrain import (
    RECORD,
    TEMPLATE,
    WEIGHTS,
    Settings,
    encode,
    main,
    make_model,
    make_tokenizer,
    pretrain,
    save,
)
from tspin.demo.problems import distinct_problems
from tspin.demo.tokenizer import BOS, EOS, PAD
from tspin.files import sha256_file
from tspin.records.records import Message
from tspin.tokens.prompts import PromptTemplate

pytestmark = pytest.mark.integration

TOKENIZER = AutoTokenizer.from_pretrained(BASE, local_files_only=True)
SHORT = Settings(steps=12, batch_size=16, warmup_steps=4)


@pytest.fixture(scope="module")
def base():
    return AutoModelForCausalLM.from_pretrained(BASE, local_files_only=True).eval()


@pytest.fixture(scope="module")
def short():
    return pretrain(SHORT)


def test_the_shipped_weights_are_the_recorded_ones_and_small():
    record = json.loads((BASE / RECORD).read_text())
    assert sha256_file(BASE / WEIGHTS) == record["weights_sha256"]
    assert record["settings"] == json.loads(json.dumps(vars(Settings())))
    assert sum(entry.stat().st_size for entry in BASE.iterdir()) < 8_000_000
    assert {entry.suffix for entry in BASE.iterdir()} == {".json", ".safetensors"}


def test_the_shipped_model_loads_and_has_the_script_s_shape(base):
    fresh = make_model(TOKENIZER, seed=0)
    assert base.num_parameters() == fresh.num_parameters()
    assert 350_000 < base.num_parameters() < 450_000
    assert {k: v.shape for k, v in base.state_dict().items()} == {
        k: v.shape for k, v in fresh.state_dict().items()
    }
    assert base.config.eos_token_id == base.generation_config.eos_token_id == TOKENIZER.eos_token_id
    assert base.config.pad_token_id == base.generation_config.pad_token_id == TOKENIZER.pad_token_id


def test_the_shipped_model_knows_the_corpus_and_not_the_annotations(base):
    def loss_per_token(pairs):
        total = count = 0.0
        for prompt, response in pairs:
            ids = torch.tensor([prompt + response])
            labels = torch.tensor([[-100] * len(prompt) + response])
            with torch.no_grad():
                total += float(base(input_ids=ids, labels=labels).loss) * len(response)
            count += len(response)
        return total / count

    corpus = [encode(TOKENIZER, example) for example in corpus_head(99, 64)]
    problems = distinct_problems(0, "heldout", 64)
    annotated = [
        encode(TOKENIZER, replace(corpus_head(0, 1)[0], prompt=p.prompt, response=p.annotation))
        for p in problems
    ]
    record = json.loads((BASE / RECORD).read_text())
    assert loss_per_token(corpus) < record["final_loss"] + 0.15
    assert loss_per_token(annotated) > 3 * loss_per_token(corpus)


def test_the_shipped_model_ends_its_answers_and_never_writes_the_annotation(base):
    for problem in distinct_problems(0, "heldout", 8):
        prompt = TOKENIZER(TEMPLATE.format(prompt=problem.prompt), return_tensors="pt")
        out = base.generate(**prompt, do_sample=False, max_new_tokens=96)[0]
        response = out[prompt["input_ids"].shape[1] :]
        assert response[-1] == TOKENIZER.eos_token_id
        text = TOKENIZER.decode(response, skip_special_tokens=True)
        assert "So " not in text
        assert "answer" not in text
        assert any(character.isdigit() for character in text)


def test_the_shipped_tokenizer_is_the_one_the_script_makes(tmp_path):
    make_tokenizer(seed=0).save_pretrained(tmp_path)
    made = json.loads((tmp_path / "tokenizer.json").read_text())
    assert made == json.loads((BASE / "tokenizer.json").read_text())


def test_the_special_tokens_are_distinct_and_there_is_no_chat_template():
    assert [TOKENIZER.bos_token, TOKENIZER.eos_token, TOKENIZER.pad_token] == [BOS, EOS, PAD]
    assert len({TOKENIZER.bos_token_id, TOKENIZER.eos_token_id, TOKENIZER.pad_token_id}) == 3
    assert TOKENIZER.chat_template is None
    assert TOKENIZER("a").input_ids[0] == TOKENIZER.bos_token_id
    assert TOKENIZER("a").input_ids[-1] != TOKENIZER.eos_token_id


@given(text=st.text())
def test_any_text_comes_back_as_it_went_in(text):
    ids = TOKENIZER.encode(text, add_special_tokens=False)
    assert TOKENIZER.decode(ids) == text


@given(prompt=st.text(), response=st.text())
def test_prompt_and_response_tokenised_apart_read_as_their_concatenation(prompt, response):
    left = TOKENIZER.encode(prompt, add_special_tokens=False)
    right = TOKENIZER.encode(response, add_special_tokens=False)
    assert TOKENIZER.decode(left + right) == prompt + response


@given(number=st.integers(0, 10**6))
def test_every_digit_is_a_token(number):
    assert len(TOKENIZER.encode(str(number), add_special_tokens=False)) == len(str(number))


def test_rows_are_begin_prompt_response_end():
    (example,) = corpus_head(0, 1)
    prompt, response = encode(TOKENIZER, example)
    assert prompt == TOKENIZER(TEMPLATE.format(prompt=example.prompt)).input_ids
    assert response[-1] == TOKENIZER.eos_token_id
    assert TOKENIZER.decode(prompt + response) == (
        f"{BOS}### Instruction: {example.prompt}\n\n### Response: {example.response}{EOS}"
    )


def test_pre_training_reads_the_ids_that_generation_and_fine_tuning_do():
    template = PromptTemplate.load(TOKENIZER, "auto")
    assert template.kind == "instruction"
    for example in corpus_head(0, 50):
        turns = [Message(role="user", content=example.prompt)]
        ids = template.prompt_ids(turns), template.response_ids(example.response)
        assert encode(TOKENIZER, example) == ids


def test_a_short_pre_training_lowers_the_loss(short):
    assert len(short.losses) == SHORT.steps
    assert short.losses[-1] < short.losses[0] - 0.5


def test_the_same_seed_gives_the_same_weights_and_saving_records_their_hash(short, tmp_path):
    save(pretrain(SHORT), SHORT, tmp_path)
    saved = load_file(tmp_path / WEIGHTS)
    for name, weight in short.model.state_dict().items():
        if name in saved:
            assert torch.equal(weight, saved[name]), name
    record = json.loads((tmp_path / RECORD).read_text())
    assert record["weights_sha256"] == sha256_file(tmp_path / WEIGHTS)
    other = pretrain(replace(SHORT, seed=1))
    assert other.losses != short.losses


def test_pre_training_gives_threads_and_random_numbers_back():
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        state = torch.get_rng_state()
        pretrain(replace(SHORT, steps=1, warmup_steps=1))
        assert torch.get_num_threads() == threads + 1
        assert torch.equal(torch.get_rng_state(), state)
    finally:
        torch.set_num_threads(threads)


def test_the_command_writes_a_model_that_loads(tmp_path):
    main(tmp_path / "base", seed=3, steps=2)
    record = json.loads((tmp_path / "base" / RECORD).read_text())
    assert record["settings"]["seed"] == 3
    assert record["settings"]["steps"] == 2
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base", local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base", local_files_only=True)
    assert model.num_parameters() == record["parameters"]
    assert tokenizer.decode(tokenizer.encode("1 + 1", add_special_tokens=False)) == "1 + 1"
