"""Chat templates of current model families: equal, repaired or refused, as the docs list them."""

from __future__ import annotations

import os
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.template_families import families, family_tokenizer
from tspin.errors import InputError
from tspin.machine.templates import Finding, findings
from tspin.records.records import AnnotatedRecord
from tspin.tokens.prompts import PromptTemplate

PAGE = Path(__file__).parents[3] / "docs/reference/chat-templates.md"
BEGIN, END = "<!-- begin table -->", "<!-- end table -->"
DAY = datetime(2024, 7, 26)
FURTHER_STOPS = {
    "gptoss": ("<|call|>",),
    **{name: ("<|tool_response>",) for name in families() if "gemma4" in name or "diff" in name},
}
"""Tokens that these models' generation_config.json has besides the template's end of turn."""

KINDS = {
    "question and answer": "answer",
    "system turn": "system",
    "earlier turns without system": "history",
    "thought": "thought",
    "tool call": "call",
    "tool result": "result",
}


@cache
def loaded(name: str) -> PromptTemplate:
    return PromptTemplate.load(family_tokenizer(name), "chat")


@cache
def tried(name: str) -> dict[str, Finding]:
    template = loaded(name)
    assert template.chat is not None
    names = (template.tokenizer.convert_ids_to_tokens(each) for each in template.stop_ids)
    stops = (*names, *FURTHER_STOPS.get(name, ()))
    return {finding.kind: finding for finding in findings(template.chat, stops)}


def row(name: str) -> str:
    by_kind = tried(name)
    outcomes = [by_kind[kind].outcome for kind in KINDS]
    notes = dict.fromkeys(
        finding.detail for finding in by_kind.values() if finding.outcome == "repaired"
    )
    return f"| `{name}` | {' | '.join(outcomes)} | {'; '.join(notes).replace('|', chr(92) + '|')} |"


def table() -> str:
    titles = ["template", *KINDS.values(), "what is repaired"]
    head = [f"| {' | '.join(titles)} |", f"| {' | '.join('---' for _ in titles)} |"]
    return "\n".join([*head, *map(row, families())])


def test_the_table_of_the_docs_is_what_the_templates_do() -> None:
    assert len(families()) >= 30
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert end
    current = f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"
    if os.environ.get("TSPIN_RECORD"):
        PAGE.write_text(current, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == current


@pytest.mark.parametrize("name", families())
def test_every_refusal_says_what_is_lost(name: str) -> None:
    for finding in tried(name).values():
        if finding.outcome == "refused":
            said = ("leaves out", "refuses the roles", "opens a thought", "continuation")
            assert any(words in finding.detail for words in said), finding


def rendering(name: str, messages: list[dict[str, Any]], response: str) -> str:
    """By transformers alone."""
    tokenizer = family_tokenizer(name)
    turns = [*messages, {"role": "assistant", "content": response}]
    if takes_parts(name):
        turns = [{**turn, "content": [{"type": "text", "text": turn["content"]}]} for turn in turns]
    return str(tokenizer.apply_chat_template(turns, tokenize=False, strftime_now=DAY.strftime))


@cache
def takes_parts(name: str) -> bool:
    return "parts" in tried(name)["question and answer"].detail


TEXTS = st.text(
    st.sampled_from("abc é😀\n\t{}<>|/'\"\\[]:012") | st.characters(codec="utf-8"), max_size=12
) | st.sampled_from(["</s>", "<|im_end|>", "<think>", "</think>", "Hi", "{{ x }}", "<|eot_id|>x"])


@settings(max_examples=200)
@given(
    name=st.sampled_from(sorted(families())),
    system=st.none() | TEXTS,
    earlier=st.lists(st.tuples(TEXTS, TEXTS), max_size=2),
    question=TEXTS,
    response=TEXTS,
)
def test_prompt_and_response_decode_to_the_templates_own_rendering(
    name: str, system: str | None, earlier: list[tuple[str, str]], question: str, response: str
) -> None:
    said = [text for pair in earlier for text in pair] + [question]
    messages = [{"role": ("user", "assistant")[at % 2], "content": t} for at, t in enumerate(said)]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    record = AnnotatedRecord.model_validate({"id": "1", "messages": messages, "response": response})
    template = loaded(name)
    try:
        ids = template.record_prompt_ids(record) + template.annotated_ids(record)
    except InputError:
        return  # A refusal is no rendering; which there are says the table.
    ids = ids[1:] if ids[0] == template.tokenizer.bos_token_id else ids
    text = template.tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    whole = rendering(name, messages, response).removeprefix("<s>")
    prompt = template.render(record.messages)
    if prompt.rstrip().endswith("<think>") and "</think>" in response:
        # Its rendering lacks the thought that its prompt opens; the response goes on with that.
        assert whole.startswith(text) or text.startswith(prompt.removeprefix("<s>"))
        return
    # Some have no end token of their own.
    assert whole.startswith(text) or whole == text.removesuffix("</s>")
