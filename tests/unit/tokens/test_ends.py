"""Which token a response is trained to end with, and at which a policy stops."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.conftest import TokenizerFactory, save_tiny_model
from tspin.config import ModelConfig, PromptConfig
from tspin.errors import InputError
from tspin.tokens.ends import name_end_token
from tspin.tokens.loading import load_template
from tspin.tokens.prompts import PromptTemplate

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GLM = (
    "[gMASK]{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
"""Nothing ends a turn but the next one."""
GLM_TOKENS = ("[gMASK]", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>")
PLAIN = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant: "


def names(template: PromptTemplate) -> tuple[str, list[str]]:
    stops = [template.token_name(index) for index in template.stop_ids]
    return template.token_name(template.end_token_id), stops


def template_of(
    factory: TokenizerFactory, chat: str, special: Sequence[str], ends: Sequence[str]
) -> PromptTemplate:
    tokenizer = factory(chat_template=chat, special=tuple(special), bos=False)
    ids = tokenizer.convert_tokens_to_ids(list(ends))
    return PromptTemplate.load(tokenizer, "chat", generation=ids)


def test_a_turn_that_only_the_next_one_ends(tokenizer_factory: TokenizerFactory) -> None:
    ends = ("</s>", "<|user|>", "<|observation|>")
    template = template_of(tokenizer_factory, GLM, GLM_TOKENS, ends)
    assert names(template) == ("<|user|>", ["</s>", "<|user|>", "<|observation|>"])
    # What it would ask itself is not its answer.
    user, answer = template.response_ids("")[0], template.response_ids("A city", finished=False)
    assert template.decode([*answer, user, *answer]) == "A city"


@pytest.mark.parametrize(
    ("chat", "special", "ends", "trained"),
    [
        (GLM, GLM_TOKENS, (), "</s>"),  # Nobody says that a turn ends otherwise.
        (GLM, GLM_TOKENS, ("</s>",), "</s>"),
        (GLM, GLM_TOKENS, ("<|observation|>",), "<|observation|>"),
        (PLAIN, (), ("</s>", "<pad>"), "</s>"),
        (CHATML, ("<|im_start|>", "<|im_end|>"), ("</s>",), "<|im_end|>"),
        (CHATML, ("<|im_start|>", "<|im_end|>", "<|x|>"), ("</s>", "<|x|>"), "<|im_end|>"),
    ],
)
def test_the_end_that_is_trained(
    tokenizer_factory: TokenizerFactory,
    chat: str,
    special: Sequence[str],
    ends: Sequence[str],
    trained: str,
) -> None:
    end, stops = names(template_of(tokenizer_factory, chat, special, ends))
    assert end == trained
    assert set(stops) == {"</s>", trained, *ends}


def test_one_of_several_ends_is_not_guessed(tokenizer_factory: TokenizerFactory) -> None:
    ends = ("<|observation|>", "<|system|>")
    with pytest.raises(InputError, match=r"puts no end token .* stops at each of .*<\|system\|>"):
        template_of(tokenizer_factory, GLM, GLM_TOKENS, ends)


def test_the_model_says_where_it_stops(tokenizer_factory: TokenizerFactory, tmp_path: Path) -> None:
    """By generation_config.json, or by config.json where there is none."""
    tokenizer = tokenizer_factory(chat_template=GLM, special=GLM_TOKENS, bos=False)
    folder, config = tmp_path / "glm", ModelConfig(path=str(tmp_path / "glm"))
    save_tiny_model(folder, tokenizer)
    user, tool = tokenizer.convert_tokens_to_ids(["<|user|>", "<|observation|>"])
    path = folder / "generation_config.json"
    for ends, stops in (
        ([2, user, tool], (2, user, tool)),
        (user, (2, user)),
        (None, (2,)),
        ([-1, user], (2, user)),
    ):
        path.write_text(json.dumps({"eos_token_id": ends}))
        assert load_template(str(folder), config, PromptConfig()).stop_ids == stops
    path.unlink()
    own = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(own | {"eos_token_id": [2, user]}))
    assert load_template(str(folder), config, PromptConfig()).stop_ids == (2, user)
    for broken in ('{"eos_token_id": "</s>"}', '{"eos_token_id": [true]}', "[]", "{"):
        path.write_text(broken)
        with pytest.raises(InputError, match=r"generation_config\.json"):
            load_template(str(folder), config, PromptConfig())


@pytest.mark.parametrize("writes_eos", [False, True])
def test_a_saved_tokenizer_names_the_end_and_renders_the_same(
    tokenizer_factory: TokenizerFactory, tmp_path: Path, writes_eos: bool
) -> None:
    chat = CHATML + ("{{ eos_token if false }}" if writes_eos else "")
    special = ("<|im_start|>", "<|im_end|>")
    tokenizer = tokenizer_factory(chat_template=chat, special=special, bos=False)
    template = PromptTemplate.load(tokenizer, "chat", generation=[2])
    name_end_token(tokenizer, template.end_token_id).save_pretrained(tmp_path)
    again = type(tokenizer).from_pretrained(tmp_path)
    # A template that writes the eos token would write another one.
    assert again.eos_token == ("</s>" if writes_eos else "<|im_end|>")
    saved = PromptTemplate.load(again, "chat", generation=template.stop_ids)
    assert (saved.hash, saved.stop_ids) == (template.hash, template.stop_ids)
    assert saved.end_token_id == template.end_token_id
    unlike = PromptTemplate.load(again, "chat", generation=[*template.stop_ids, 3])
    assert unlike.hash != template.hash


def test_tokens_without_an_embedding_are_refused_with_both_sizes(
    tokenizer_factory: TokenizerFactory, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    tokenizer = tokenizer_factory(bos=False)
    save_tiny_model(folder, tokenizer)
    size = len(tokenizer)

    def load(kind: str = "auto") -> PromptTemplate:
        prompt = PromptConfig.model_validate({"template": kind})
        return load_template(str(folder), ModelConfig(path=str(folder)), prompt)

    assert load().pad_token_id == tokenizer.pad_token_id
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(folder)
    assert load().pad_token_id == load().end_token_id  # Padding is never looked at.

    tokenizer.chat_template = CHATML
    tokenizer.add_tokens(["<|im_start|>", "<|im_end|>"], special_tokens=True)
    tokenizer.save_pretrained(folder)
    sizes = rf"tokenizer has {size + 3} tokens, its embedding {size}: .*im_start.*im_end"
    with pytest.raises(InputError, match=sizes):
        load()
    # Nothing writes them there.
    assert load("instruction").kind == "instruction"

    tokenizer.add_tokens(["Paris"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(InputError, match=rf"has {size + 4} tokens, its embedding {size}: .*Paris"):
        load("instruction")
    shutil.rmtree(folder)
