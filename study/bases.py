"""Pre-training of the study's bases: small Llamas that know every skill, none of them well."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, cast

import torch
import typer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from study.items import corpus, items
from study.protocol import BASES, Base, base_folder
from study.skills import SKILLS
from tspin.demo.pretrain import TEMPLATE, batches, encode
from tspin.demo.tokenizer import MAX_LENGTH, train_tokenizer
from tspin.files import atomic_folder

__all__ = ["RECORD", "make_bases", "probe"]

VOCABULARY = 1_024
"""Names and things become single tokens, digits stay apart."""
Batch = tuple[torch.Tensor, torch.Tensor]

RECORD = "pretraining.json"
_BLOCK, _SLICE = 250, 10
"""Steps between two looks at the probe items, and where a skill comes suddenly."""
_REACH = 0.05
"""How far from the target a checkpoint may lie."""
_ROWS = 32
_WARMUP = 100
_PROBED = 192
"""Items a skill, of a split of their own."""
_ANSWER = 64
"""Tokens of an answer to a probe item; annotations have fewer."""


def make_bases(out: Path, name: str, skills: list[str]) -> None:
    """Pre-train one base and keep a checkpoint for each skill, at the first look on target.

    The learning rate warms up and stays: any step may be the last. A killed pre-training starts
    again, unless all its checkpoints are in place.

    Args:
        out: The study's folder.
        name: In `BASES`.
        skills: Skills to keep a checkpoint for; those in place are left alone.

    Raises:
        RuntimeError: a skill has not met its target after the most steps.
    """
    missing = [skill for skill in skills if not (base_folder(out, name, skill) / RECORD).is_file()]
    if not missing:
        return
    base = BASES[name]
    pretraining = Pretraining(base)
    for right in pretraining.looks(missing):
        typer.echo(f"base {name}, step {pretraining.step}: {pretraining.loss:.3f}, {right}")
        for skill in [skill for skill in missing if abs(right[skill] - base.target) <= _REACH]:
            pretraining.save(base_folder(out, name, skill), {"skill": skill, "right": right})
            missing.remove(skill)
        if not missing:
            return
    raise RuntimeError(f"base {name}: no {missing} near {base.target} in {base.most_steps} steps")


@torch.inference_mode()
def probe(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    skill: str,
    *,
    annotated: bool = False,
) -> float:
    """Share of probe items that a greedy answer gets right.

    Args:
        model: The base as it is.
        tokenizer: Its tokenizer.
        skill: Whose items are asked.
        annotated: Count only what is in the annotator's form, too.
    """
    model.eval()  # type: ignore[no-untyped-call]
    probed = items(skill, "probe", _PROBED)
    prompts = [TEMPLATE.format(prompt=item.prompt) for item in probed]
    batch = tokenizer(prompts, return_tensors="pt", padding=True, return_token_type_ids=False)
    # transformers' own signature knows no Llama.
    sequences = cast(Any, model).generate(**batch, do_sample=False, max_new_tokens=_ANSWER)
    texts = tokenizer.batch_decode(
        sequences[:, batch["input_ids"].shape[1] :], skip_special_tokens=True
    )
    verify = SKILLS[skill].is_annotated if annotated else SKILLS[skill].is_right
    return sum(verify(item, text) for item, text in zip(probed, texts, strict=True)) / len(probed)


class Pretraining:
    """A base on its way."""

    def __init__(self, base: Base) -> None:
        """A tokenizer from the corpus, and random weights."""
        self.base = base
        self.step = 0
        self.loss = float("nan")
        """Mean of the last block, in nats a response token."""
        texts = (
            TEMPLATE.format(prompt=example.prompt) + example.response
            for example in islice(corpus(base.seed), 5_000)
        )
        self._tokenizer = train_tokenizer(texts, vocab_size=VOCABULARY)
        self._model = _model(base, self._tokenizer)
        self._optimizer = torch.optim.AdamW(
            self._model.parameters(), lr=base.learning_rate, betas=(0.9, 0.99), weight_decay=0.01
        )
        self._examples = corpus(base.seed)

    def looks(self, missing: list[str]) -> Iterator[dict[str, float]]:
        """Train block by block; after each the share of probe items right, by skill.

        Where a skill is above its target at the end of a block, the block is trained again from its
        start, with a look after each slice.

        Args:
            missing: Skills to look at; the caller removes those that it has a checkpoint of.
        """
        highest = self.base.target + _REACH
        while self.step < self.base.most_steps:
            block = self._block()
            before = deepcopy((self._model.state_dict(), self._optimizer.state_dict()))
            self._train(block)
            right = self._look(missing)
            if max(right.values()) <= highest:
                yield right
                continue
            self.step -= len(block)
            self._model.load_state_dict(before[0])
            self._optimizer.load_state_dict(before[1])
            for start in range(0, len(block), _SLICE):
                self._train(block[start : start + _SLICE])
                yield self._look(missing)

    def _look(self, skills: list[str]) -> dict[str, float]:
        return {skill: probe(self._model, self._tokenizer, skill) for skill in skills}

    def _block(self) -> list[Batch]:
        rows = [
            encode(self._tokenizer, example) for example in islice(self._examples, _BLOCK * _ROWS)
        ]
        pad = int(self._tokenizer.pad_token_id)
        return list(batches(rows, _ROWS, pad, self.base.seed + self.step))

    def save(self, out: Path, record: dict[str, object]) -> None:
        """The model as it is, with what is known of it."""
        facts = {"base": asdict(self.base), "step": self.step, "loss": self.loss, **record}
        with atomic_folder(out) as folder:
            self._model.save_pretrained(folder)
            self._tokenizer.save_pretrained(folder)
            (folder / RECORD).write_text(json.dumps(facts, indent=2) + "\n")

    def _train(self, block: list[Batch]) -> None:
        losses = []
        self._model.train()
        for ids, labels in block:
            self.step += 1
            for group in self._optimizer.param_groups:
                group["lr"] = self.base.learning_rate * min(1.0, self.step / _WARMUP)
            loss = self._model(input_ids=ids, labels=labels).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
            self._optimizer.step()
            self._optimizer.zero_grad()
            losses.append(float(loss.detach()))
        self.loss = sum(losses) / len(losses)


def _model(base: Base, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    torch.manual_seed(base.seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=base.hidden,
        intermediate_size=3 * base.hidden,
        num_hidden_layers=base.layers,
        num_attention_heads=base.hidden // 32,
        max_position_embeddings=MAX_LENGTH,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)  # type: ignore[no-untyped-call]
