"""Engines: responses of each row alone, exactly as the policy and the settings say."""

from pathlib import Path

import peft
import pytest
import torch
from transformers import GenerationConfig, LlamaForCausalLM

from tspin.config import DataConfig, GenerateConfig, ModelConfig, RunConfig, SystemConfig
from tspin.engines import GenerationRequest, SamplingParams, open_engine
from tspin.engines.base import cut_at_stop
from tspin.engines.fake import FakeEngine
from tspin.engines.sampling import RowSampler
from tspin.engines.transformers import TransformersEngine
from tspin.errors import TspinError
from tspin.records.records import Message
from tspin.tokens.prompts import PromptTemplate

SAMPLED = SamplingParams(temperature=1.0, top_p=1.0, max_new_tokens=24)
GREEDY = SamplingParams(temperature=0.0, top_p=1.0, max_new_tokens=24)
QUESTIONS = ("Name a city.", "12 and 34?", "A", "How many apples are 12 and 34 and 46? " * 3, "é")


@pytest.fixture(scope="module")
def template(tiny_tokenizer):
    return PromptTemplate.load(tiny_tokenizer, "auto")


@pytest.fixture(scope="module")
def policy(tiny_model_dir):
    return LlamaForCausalLM.from_pretrained(tiny_model_dir).eval()


@pytest.fixture(scope="module")
def engine(policy, template):
    return TransformersEngine(policy, template, batch_size=32)


@pytest.fixture(scope="module")
def requests(template):
    return [
        GenerationRequest(f"r{i}", tuple(template.prompt_ids([_user(text)])), seed=1000 + i)
        for i, text in enumerate(QUESTIONS * 3)
    ]


def answers(engine, requests, sampling):
    return [made for group in engine.generate(requests, sampling) for made in group]


def _user(text: str) -> Message:
    return Message(role="user", content=text)


def _config(model: Path, **sections) -> RunConfig:
    return RunConfig(
        run_dir=Path("unused"),
        model=ModelConfig(path=str(model)),
        data=DataConfig(annotated=Path("unused")),
        system=SystemConfig(device="cpu"),
        **sections,
    )


def test_responses_do_not_depend_on_batch_size_order_or_company(engine, policy, template, requests):
    whole = {made.id: made for made in answers(engine, requests, SAMPLED)}
    assert len({made.text for made in whole.values()}) > len(requests) // 2
    for size in (1, 3, 8):
        turned = requests[::-1]
        engine = TransformersEngine(policy, template, batch_size=size)
        groups = list(engine.generate(iter(turned), SAMPLED))
        assert [len(group) for group in groups[:-1]] == [4 * size] * (len(groups) - 1)
        assert {made.id: made for group in groups for made in group} == whole


def test_matches_token_by_token_sampling_without_padding_or_cache(engine, policy, requests):
    request = requests[3]
    sampler = RowSampler(SAMPLED, [request.seed], torch.device("cpu"))
    ids = list(request.prompt_ids)
    with torch.inference_mode():
        for _ in range(SAMPLED.max_new_tokens):
            tensor = torch.tensor([ids])
            logits = policy(tensor, use_cache=False).logits[:, -1].float()
            ids.append(int(sampler.draw(logits, [0])))
            if ids[-1] in engine._template.stop_ids:
                break
    # The request stands between shorter ones, left-padded by them or they by it.
    made = answers(engine, requests[2:5], SAMPLED)[1]
    assert made.text == engine._template.decode(ids[len(request.prompt_ids) :])
    assert made.prompt_tokens == len(request.prompt_ids)


def test_same_seed_same_text_other_seed_other_text(engine, requests):
    first, again = answers(engine, [requests[0], requests[0]], SAMPLED)
    other = GenerationRequest("r0", requests[0].prompt_ids, seed=5)
    assert first == again
    assert answers(engine, [other], SAMPLED)[0].text != first.text


def test_greedy_ignores_seeds_and_takes_the_likeliest(engine, policy, requests):
    one = answers(engine, [requests[0]], GREEDY)[0]
    other = answers(engine, [GenerationRequest("r0", requests[0].prompt_ids, seed=5)], GREEDY)[0]
    assert one.text == other.text
    with torch.inference_mode():
        logits = policy(torch.tensor([requests[0].prompt_ids])).logits[0, -1]
    assert one.text.startswith(engine._template.decode([int(logits.argmax())]))


def test_the_models_own_generation_settings_are_not_used(tiny_model_dir, template, requests):
    def greedy(settings: dict[str, object]) -> list[str]:
        policy = LlamaForCausalLM.from_pretrained(tiny_model_dir).eval()
        policy.generation_config = GenerationConfig(**settings)
        made = answers(TransformersEngine(policy, template, batch_size=32), requests[:5], SAMPLED)
        return [answer.text for answer in made]

    plain = greedy({})
    assert greedy({"repetition_penalty": 5.0, "do_sample": True, "top_k": 1}) == plain
    assert greedy({"suppress_tokens": list(range(200)), "max_length": 3}) == plain
    assert greedy({"eos_token_id": list(range(4, 300)), "min_new_tokens": 9}) == plain


def test_limit_and_finish_reasons(engine, requests):
    made = answers(engine, requests, SamplingParams(1.0, 1.0, 120))
    reasons = {answer.finish_reason for answer in made}
    assert reasons == {"stop", "length"}
    for answer in made:
        limit = 120 if answer.finish_reason == "length" else 119
        assert answer.response_tokens <= limit
        assert answer.finish_reason == "stop" or answer.response_tokens == 120


def test_stop_strings_cut_the_response_before_them(engine, requests):
    whole = answers(engine, requests, SAMPLED)
    middle = next(made.text[5:8] for made in whole if len(made.text) > 12)
    stopping = SamplingParams(1.0, 1.0, 24, stop=("never in there", middle))
    hits = 0
    stopped = answers(engine, requests, stopping)
    for request, before, after in zip(requests, whole, stopped, strict=True):
        assert middle not in after.text
        if middle in before.text:
            hits += 1
            assert after.text == before.text[: before.text.index(middle)]
            assert after.finish_reason == "stop"
            assert after.response_tokens <= before.response_tokens
            assert answers(engine, [request], stopping) == [after]
        else:
            assert after == before
    assert hits > 0


class Scripted(torch.nn.Module):
    """An output head that is sure of one text, token by token."""

    def __init__(self, ids: list[int]) -> None:
        super().__init__()
        self.ids, self.calls = ids, 0

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(*hidden.shape[:-1], 400)
        logits[..., self.ids[min(self.calls, len(self.ids) - 1)]] = 1e4
        self.calls += 1
        return logits


@pytest.mark.parametrize(
    ("text", "stop", "before", "tokens"),
    [
        # "46", newline, "###", " Instruction": the token that completes the string is the last.
        ("46\n### Instruction: A B C A B C", "### Instr", "46\n", 4),
        ("46é😀 A B C", "é😀", "46", 1 + 2 + 4),  # As many tokens as bytes.
        ("46", "never in there", "46", 1),
    ],
)
def test_a_row_ends_with_the_token_that_completes_a_stop_string_or_is_the_end(
    tiny_model_dir, template, text, stop, before, tokens
):
    policy = LlamaForCausalLM.from_pretrained(tiny_model_dir).eval()
    policy.lm_head = Scripted(template.response_ids(text))
    request = GenerationRequest("r", tuple(template.prompt_ids([_user("x")])), seed=1)
    sampling = SamplingParams(1.0, 1.0, 200, stop=(stop,))
    made = answers(TransformersEngine(policy, template, batch_size=32), [request], sampling)[0]
    assert (made.text, made.finish_reason) == (before, "stop")
    assert made.response_tokens == tokens
    assert policy.lm_head.calls == tokens + (stop not in text)  # The end token is one more.


def test_all_end_tokens_of_the_model_stop_a_row_and_others_stand_in_its_text(
    tiny_model_dir, tiny_tokenizer
):
    pad, begin = tiny_tokenizer.convert_tokens_to_ids(["<pad>", "<s>"])
    template = PromptTemplate.load(tiny_tokenizer, "auto", generation=[2, pad])
    policy = LlamaForCausalLM.from_pretrained(tiny_model_dir).eval()
    emitted = [*template.response_ids("46", finished=False), begin]
    policy.lm_head = Scripted([*emitted, pad, *emitted])
    request = GenerationRequest("r", tuple(template.prompt_ids([_user("x")])), seed=1)
    made = answers(TransformersEngine(policy, template, batch_size=32), [request], GREEDY)[0]
    assert (made.text, made.finish_reason) == ("46<s>", "stop")
    assert (made.response_tokens, made.special_tokens) == (len(emitted), 1)
    stopping = SamplingParams(0.0, 1.0, 24, stop=("<s>",))
    policy.lm_head.calls = 0
    made = answers(TransformersEngine(policy, template, batch_size=32), [request], stopping)[0]
    assert (made.text, made.special_tokens) == ("46", 0)
    assert policy.lm_head.calls == len(emitted)


@pytest.mark.parametrize("task", ["CAUSAL_LM", None])
def test_lora_adapter_answers_as_the_merged_model(tiny_model_dir, template, requests, task):
    base = LlamaForCausalLM.from_pretrained(tiny_model_dir)
    torch.manual_seed(0)
    adapter = peft.LoraConfig(task_type=task, r=4, init_lora_weights=False)
    adapter.target_modules = {"q_proj", "down_proj"}
    policy = peft.get_peft_model(base, adapter).eval()
    policy.generation_config.repetition_penalty = 3.0
    made = answers(TransformersEngine(policy, template, batch_size=32), requests[:5], GREEDY)
    merged = policy.merge_and_unload()
    merged.generation_config = GenerationConfig()
    wanted = answers(TransformersEngine(merged, template, batch_size=32), requests[:5], GREEDY)
    assert [answer.text for answer in made] == [answer.text for answer in wanted]


def test_open_engine_loads_what_the_configuration_names(tiny_model_dir, template, requests):
    engine = open_engine(_config(tiny_model_dir), str(tiny_model_dir), template)
    assert isinstance(engine, TransformersEngine)
    assert len(answers(engine, requests[:1], GREEDY)) == 1
    assert answers(engine, [], GREEDY) == []
    engine.close()
    with pytest.raises(TspinError, match="closed"):
        answers(engine, requests[:1], GREEDY)
    fake = _config(tiny_model_dir, generate=GenerateConfig(engine="fake"))
    assert isinstance(open_engine(fake, "no model needed", template), FakeEngine)


def test_fake_engine_keeps_the_protocol(template, requests):
    engine = FakeEngine(template)
    sampling = SamplingParams(1.0, 1.0, 8, stop=("46",))
    made = answers(engine, requests, sampling)
    assert [answer.id for answer in made] == [request.id for request in requests]
    assert answers(engine, requests[4:5], sampling) == made[4:5]
    assert {answer.finish_reason for answer in made} == {"stop", "length"}
    assert all(answer.response_tokens <= 8 and "46" not in answer.text for answer in made)
    greedy = answers(engine, [GenerationRequest("r", requests[0].prompt_ids, 9)], GREEDY)
    assert greedy[0].text == answers(engine, requests[:1], GREEDY)[0].text


def test_cut_at_stop_takes_the_first_in_the_text():
    assert cut_at_stop("a b c", ["c", "b"]) == ("a ", True)
    assert cut_at_stop("a b c", ["x"]) == ("a b c", False)
    assert cut_at_stop("a b c", []) == ("a b c", False)
