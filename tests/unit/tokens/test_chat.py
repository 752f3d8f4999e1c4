"""What a chat template renders is what is trained: equal, repaired, or one message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tests.template_families import family_tokenizer
from tspin.config import PromptConfig
from tspin.errors import InputError
from tspin.records.records import AnnotatedRecord, Triplet
from tspin.tokens.prompts import PromptTemplate

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WITHOUT_HEADER = CHATML.partition("{% if add")[0]
NO_SYSTEM = (
    "{% for m in messages if m.role != 'system' %}{% if m.role == 'user' %}<|user|>\n"
    "{{ m.content }}<|end|>\n<|assistant|>\n{% else %}{{ m.content }}<|end|>\n{% endif %}"
    "{% endfor %}"
)
LAST_TURNS_ONLY = CHATML.replace("in messages", "in messages[-2:]")
OPENS_A_THOUGHT = (
    "{% for m in messages %}{% if m.role == 'user' %}<|User|>{{ m.content }}"
    "{% elif m.role == 'assistant' %}<|Assistant|>{{ m.content.split('</think>')[-1] }}"
    "{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|Assistant|><think>\n{% endif %}"
)
TOKENS = ("<|im_start|>", "<|im_end|>", "<|user|>", "<|assistant|>", "<|end|>", "<|User|>")
CALL = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "weather"}}


def turns(*contents: str, system: str | None = None) -> list[dict[str, Any]]:
    roles = ("user", "assistant")
    said = [{"role": roles[at % 2], "content": text} for at, text in enumerate(contents)]
    return said if system is None else [{"role": "system", "content": system}, *said]


def record(*contents: str, response: str = "Yo", system: str | None = None, **fields: Any):
    content = {"messages": turns(*contents, system=system), "response": response, **fields}
    return AnnotatedRecord.model_validate({"id": "r-7", **content})


@pytest.fixture
def load(tokenizer_factory):
    def loaded(source: str | dict[str, str], **settings: Any) -> PromptTemplate:
        tokenizer = tokenizer_factory(chat_template=source, special=TOKENS, bos=False)
        tokenizer.add_tokens(["<think>", "</think>"])
        tokenizer.name_or_path = "some/model"
        return PromptTemplate.load(tokenizer, PromptConfig(**settings))

    return loaded


def text_of(template: PromptTemplate, one: AnnotatedRecord | Triplet) -> tuple[str, str]:
    """Prompt and response as they are trained, from their ids."""
    ids = template.record_prompt_ids(one), template.annotated_ids(one)
    prompt, response = (template.tokenizer.decode(each) for each in ids)
    return prompt, response


def family(name: str, **settings: Any) -> PromptTemplate:
    return PromptTemplate.load(family_tokenizer(name), PromptConfig(**settings))


def test_a_system_turn_that_the_template_drops_is_refused(load) -> None:
    template = load(NO_SYSTEM)
    assert text_of(template, record("Hi")) == ("<|user|>\nHi<|end|>\n<|assistant|>\n", "Yo<|end|>")
    # The second says in its system turn what another turn says too.
    for said in ("Be brief.", "Hi"):
        with pytest.raises(InputError, match=rf"'r-7'.*some/model leaves out the system.*{said}"):
            template.record_prompt_ids(record("Hi", system=said))
    with pytest.raises(InputError, match=r"prompt.template to 'instruction'"):
        template.check(record("Hi", system="Be brief."))


def test_a_template_that_drops_history_refuses_only_records_that_have_one(load) -> None:
    template = load(LAST_TURNS_ONLY)
    assert text_of(template, record("Hi"))[1] == "Yo<|im_end|>"
    with pytest.raises(InputError, match=r"leaves out the user turn \(turn 1: 'One'\)"):
        template.record_prompt_ids(record("One", "Two", "Three"))


def test_the_header_that_a_template_writes_only_with_an_answer_joins_the_prompt(load) -> None:
    prompt, response = text_of(load(WITHOUT_HEADER), record("Hi"))
    assert prompt == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert response == "Yo<|im_end|>"
    assert load(WITHOUT_HEADER).hash != load(CHATML).hash


def test_spaces_of_such_a_header_stay_with_the_text(load) -> None:
    named = "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}"
    template = load(named)
    assert text_of(template, record("Hi")) == ("user: Hi</s>assistant:", " Yo</s>")
    assert template.decode(template.response_ids("Yo")) == "Yo"


def test_contents_are_handed_over_as_parts_where_a_template_wants_them(load) -> None:
    parts = CHATML.replace("{{ m['content'] }}", "{{ m['content'][0]['text'] }}")
    assert text_of(load(parts), record("Hi", system="S")) == (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
        "Yo<|im_end|>",
    )


@pytest.mark.parametrize(
    "source",
    [
        "{{ raise_exception('never') }}",
        "{% for m in messages %}{{ m.content",
        "{% generation",
        "{{ messages + 1 }}",
        "{{ 1 / 0 }}",
        "{{ messages[7].content.text }}",
        "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(0) }}",
        "{% for m in messages %}{{ m.role }}{% endfor %}",
        "",
        " ",
        "{{ messages }}{% if add_generation_prompt %}A{% endif %}",
    ],
)
def test_a_template_that_cannot_work_is_one_message(load, source: str) -> None:
    with pytest.raises(InputError) as refusal:
        load(source, template="chat")
    message = str(refusal.value)
    assert "some/model" in message
    assert "'instruction'" in message
    assert "\n" not in message
    assert "Traceback" not in message


def test_several_templates_without_a_default_are_named(load, tmp_path: Path) -> None:
    named = {"rag": CHATML, "tool_use": CHATML}
    for kind in ("auto", "chat"):
        with pytest.raises(InputError, match=r"some/model has .*\['rag', 'tool_use'\]") as refusal:
            load(named, template=kind)
        assert "prompt.template to 'instruction'" in str(refusal.value)
    assert load(named, template="instruction").kind == "instruction"
    file = tmp_path / "rag.jinja"
    file.write_text(CHATML)
    assert text_of(load(named, chat_template=str(file)), record("Hi"))[1] == "Yo<|im_end|>"
    assert load({"default": CHATML, "tool_use": NO_SYSTEM}).kind == "chat"


def test_a_thought_that_the_prompt_opens_is_not_opened_twice(load) -> None:
    template = load(OPENS_A_THOUGHT)
    thought = {"<think>\nsum\n</think>\n\n5": "sum\n</think>\n\n5", "<think>sum</think>5": None}
    for response, continued in thought.items():
        prompt, trained = text_of(template, record("2+3?", response=response))
        assert prompt == "<|User|>2+3?<|Assistant|><think>\n"
        assert trained == (continued or "sum</think>5") + "</s>"
    with pytest.raises(InputError, match=r"opens a thought in the prompt \('<think>\\n'\)"):
        template.annotated_ids(record("2+3?", response="5"))


def test_reasoning_is_refused_kept_or_dropped(load) -> None:
    thinking = record("2+3?", response="5", reasoning_content="Two plus three.")
    with pytest.raises(InputError, match=r"'r-7'.*'reasoning_content'.*prompt.reasoning"):
        family("qwen3").check(thinking)
    kept = text_of(family("qwen3", reasoning="keep"), thinking)[1]
    assert kept == "<think>\nTwo plus three.\n</think>\n\n5<|im_end|>"
    dropped = text_of(family("qwen3", reasoning="drop"), thinking)[1]
    assert dropped == "<think>\n\n</think>\n\n5<|im_end|>"
    # Its template reads no such field; the prompt opens the thought that the response goes on with.
    assert text_of(load(OPENS_A_THOUGHT, reasoning="keep"), thinking) == (
        "<|User|>2+3?<|Assistant|><think>\n",
        "Two plus three.\n</think>\n\n5</s>",
    )
    with pytest.raises(InputError, match=r"leaves out the reasoning of the response"):
        load(CHATML, reasoning="keep").check(thinking)
    with pytest.raises(InputError, match=r"no place for 'reasoning_content'.*reasoning to drop"):
        load(CHATML, template="instruction").check(thinking)


def test_other_names_of_a_thought_reach_their_templates() -> None:
    thinking = record("2+3?", response="5", reasoning_content="Two plus three.")
    assert text_of(family("gptoss", reasoning="keep"), thinking)[1] == (
        "<|channel|>analysis<|message|>Two plus three.<|end|>"
        "<|start|>assistant<|channel|>final<|message|>5<|return|>"
    )


def test_an_annotation_without_a_thought_is_trained_as_the_template_renders_it() -> None:
    plain = record("2+3?", response="5")
    for name, empty in {
        "qwen3": "<think>\n\n</think>\n\n",
        "qwen3_5_think": "\n</think>\n\n",
        "glm4moe": "\n<think></think>\n",
        "nemotron_3_nano": "</think>",
    }.items():
        prompt, response = text_of(family(name), plain)
        assert response.startswith(f"{empty}5"), name
        assert (prompt + response).count("<think>") == 1, name
    prompt, response = text_of(
        family("qwen3", chat_template_kwargs={"enable_thinking": False}), plain
    )
    assert prompt.endswith("<think>\n\n</think>\n\n")
    assert response == "5<|im_end|>"


def test_a_thought_is_refused_where_the_prompt_has_ended_it() -> None:
    off = {"enable_thinking": False}
    template = family("qwen3_5_think", chat_template_kwargs=off, reasoning="keep")
    with pytest.raises(InputError, match=r"continuation of the prompt"):
        template.check(record("2+3?", response="5", reasoning_content="Two plus three."))


@pytest.mark.parametrize("name", ["qwen2_5", "qwen3", "llama3_1", "glm4moe", "lfm2_v2"])
def test_a_call_of_a_tool_is_trained_as_the_template_renders_it(name: str) -> None:
    arguments = '{"city": "Paris"}'
    call = {**CALL, "function": {"name": "weather", "arguments": arguments}}
    tool = {
        "type": "function",
        "function": {"name": "weather", "description": "", "parameters": {}},
    }
    as_object = {**call, "function": {"name": "weather", "arguments": {"city": "Paris"}}}
    template = family(name)
    asked = {"tools": [tool], "response": ""}
    texts = [
        text_of(template, record("Weather?", tool_calls=[each], **asked))
        for each in (call, as_object)
    ]
    assert texts[0] == texts[1]
    prompt, response = texts[0]
    assert "weather" in prompt
    assert "weather" in response
    assert "Paris" in response
    assert '\\"city' not in response


def test_a_call_that_ends_where_generation_goes_on_is_refused() -> None:
    calling = record("Weather?", response="", tool_calls=[CALL])
    with pytest.raises(InputError, match=r"ends this response with .*<\|call\|>.*eos_token_id"):
        family("gptoss").check(calling)


def test_tools_and_calls_reach_the_prompt_and_are_refused_where_they_do_not(load) -> None:
    conversation = [
        *turns("Weather?"),
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "sunny", "tool_call_id": "1"},
    ]
    content = {"id": "r-7", "messages": conversation, "response": "It is sunny."}
    calling = AnnotatedRecord.model_validate({**content, "tools": [TOOL]})
    prompt, response = text_of(family("qwen2_5"), calling)
    for part in ('"name": "weather"', "<tool_call>", "sunny", "<tool_response>"):
        assert part in prompt
    assert response == "It is sunny.<|im_end|>"
    # Its template asks for a description and parameters, which a tool need not have.
    prompt, response = text_of(family("gptoss"), calling)
    assert "type weather = " in prompt
    assert response == "<|channel|>final<|message|>It is sunny.<|return|>"
    with pytest.raises(InputError, match=r"leaves out 'tools'"):
        load(CHATML).check(calling)
    with pytest.raises(InputError, match=r"leaves out tool calls"):
        load(CHATML).check(AnnotatedRecord.model_validate(content))
    with pytest.raises(InputError, match=r"leaves out tool calls"):
        load(CHATML).check(record("Weather?", response="", tool_calls=[CALL]))
    with pytest.raises(InputError, match=r"no place for tools"):
        load(CHATML, template="instruction").check(calling)


def test_special_tokens_in_annotations_stay_characters_and_tags_of_thoughts_do_not(
    tokenizer_factory,
) -> None:
    special = (*TOKENS, "<think>", "</think>")
    tokenizer = tokenizer_factory(chat_template=OPENS_A_THOUGHT, special=special, bos=False)
    template = PromptTemplate.load(tokenizer, "chat")
    ids = template.annotated_ids(record("?", response="<think>\na</s>\n</think>\n\n<|User|>5"))
    tokens = tokenizer.convert_ids_to_tokens(ids)
    assert (tokens.count("</think>"), tokens.count("</s>"), tokens.count("<|User|>")) == (1, 1, 0)
    assert tokenizer.decode(ids) == "a</s>\n</think>\n\n<|User|>5</s>"
    asked = template.prompt_ids(record("a</think>b").messages)
    assert tokenizer.convert_tokens_to_ids("</think>") not in asked


def test_the_hash_tells_whatever_changes_the_rendering(load, tmp_path: Path) -> None:
    switched = (
        "{% if not brief is defined or brief %}" + CHATML + "{% else %}" + CHATML + "{% endif %}"
    )
    file, other = tmp_path / "a.jinja", tmp_path / "b.jinja"
    file.write_text(switched)
    other.write_text(switched + " ")
    settings: list[dict[str, Any]] = [
        {},
        {"chat_template_kwargs": {"brief": False}},
        {"chat_template_kwargs": {"brief": True}},
        {"reasoning": "keep"},
        {"reasoning": "drop"},
        {"chat_template": str(other)},
        {"template": "instruction"},
        {"template": "instruction", "reasoning": "drop"},
    ]
    hashes = [load(switched, **each).hash for each in settings]
    assert len(set(hashes)) == len(hashes)
    assert load(CHATML, chat_template=str(file)).hash == hashes[0]


def test_a_template_from_a_file_is_saved_with_the_model(load, tokenizer_factory, tmp_path) -> None:
    file = tmp_path / "own.jinja"
    file.write_text(NO_SYSTEM + "\n")
    prompt = PromptConfig(chat_template=str(file))
    tokenizer = tokenizer_factory(chat_template=CHATML, special=TOKENS)
    template = PromptTemplate.load(tokenizer, prompt)
    template.install(tokenizer)
    tokenizer.save_pretrained(tmp_path / "saved")
    saved: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert PromptTemplate.load(saved, prompt).hash == template.hash
    assert PromptTemplate.load(saved, "auto").render(record("Hi").messages) == template.render(
        record("Hi").messages
    )


def test_settings_that_cannot_be_meant_are_refused(load, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'enable_thinkin'.*did you mean 'enable_thinking'"):
        family("qwen3", chat_template_kwargs={"enable_thinkin": False})
    with pytest.raises(InputError, match=r"no.jinja: no such file"):
        load(CHATML, chat_template=str(tmp_path / "no.jinja"))
    (tmp_path / "empty.jinja").write_text(" \n")
    with pytest.raises(InputError, match=r"empty.jinja: is empty"):
        load(CHATML, chat_template=str(tmp_path / "empty.jinja"))
    (tmp_path / "bytes.jinja").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"bytes.jinja.*UTF-8"):
        load(CHATML, chat_template=str(tmp_path / "bytes.jinja"))
    for settings in (
        {"chat_template_kwargs": {"tools": []}},
        {"template": "instruction", "chat_template": "a.jinja"},
        {"template": "instruction", "chat_template_kwargs": {"enable_thinking": False}},
        {"reasoning": "maybe"},
    ):
        with pytest.raises(ValueError, match=r"chat|reasoning"):
            PromptConfig(**settings)
