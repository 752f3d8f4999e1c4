"""Pre-training of the study's bases: small Llamas that know every skill, none of them well."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import torch
import typer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from benchmarks.reproduction.data import corpus, items
from benchmarks.reproduction.skills import SKILLS
from tspin.demo.corpus import Example
from tspin.demo.pretrain import TEMPLATE, batches, encode
from tspin.demo.tokenizer import MAX_LENGTH, train_tokenizer
from tspin.files import atomic_folder

__all__ = ["BASES", "Base", "base_folder", "make_bases"]

VOCABULARY = 1_024
"""Names and things become single tokens, digits stay apart."""
RECORD = "pretraining.json"
_BLOCK = 250
"""Steps between two looks at the probe items."""
_ROWS = 32


@dataclass(frozen=True)
class Base:
    """A size, and how good a skill has to be for the checkpoint of that skill to be taken."""

    hidden: int
    layers: int
    target: float
    """Share of probe items that a greedy answer gets right."""
    seed: int
    learning_rate: float = 3e-3
    most_steps: int = 40_000


BASES = {
    "weak": Base(hidden=96, layers=3, target=0.3, seed=0),
    "middle": Base(hidden=128, layers=4, target=0.45, seed=1),
    "strong": Base(hidden=192, layers=4, target=0.6, seed=2),
}
PROBED = 128
"""Items a skill, of a split of their own."""


def base_folder(out: Path, base: str, skill: str) -> Path:
    """Where the checkpoint of one base for one skill stands."""
    return out / "bases" / base / skill


def make_bases(out: Path, name: str, wanted: list[str]) -> None:
    """Pre-train one base and keep a checkpoint for each skill, the first that reaches the target.

    The learning rate warms up and stays: any step may be the last. A killed pre-training starts
    again, unless all its checkpoints are in place.

    Raises:
        RuntimeError: a skill has not reached the target after the most steps.
    """
    missing = [skill for skill in wanted if not (base_folder(out, name, skill) / RECORD).is_file()]
    if not missing:
        return
    base = BASES[name]
    texts = (
        TEMPLATE.format(prompt=example.prompt) + example.response
        for example in islice(corpus(base.seed), 5_000)
    )
    tokenizer = train_tokenizer(texts, vocab_size=VOCABULARY)
    model = _model(base, tokenizer)
    for step, loss in _trained(base, model, tokenizer):
        right = {skill: _probe(model, tokenizer, skill) for skill in wanted}
        typer.echo(f"base {name}, step {step}: loss {loss:.3f}, right {right}")
        for skill in [each for each in missing if right[each] >= base.target]:
            record = {"base": asdict(base), "step": step, "loss": loss, "right": right}
            _save(model, tokenizer, record, base_folder(out, name, skill))
            missing.remove(skill)
        if not missing:
            return
    raise RuntimeError(f"base {name}: {missing} below {base.target} after {base.most_steps} steps")


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


def _trained(
    base: Base, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> Iterator[tuple[int, float]]:
    """Train block by block; yields the step and the mean loss of the block, in nats a token."""
    examples = corpus(base.seed)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=base.learning_rate, betas=(0.9, 0.99), weight_decay=0.01
    )
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, 0.01, total_iters=100)
    pad = int(tokenizer.pad_token_id)
    for step in range(_BLOCK, base.most_steps + 1, _BLOCK):
        block: list[Example] = list(islice(examples, _BLOCK * _ROWS))
        rows = [encode(tokenizer, example) for example in block]
        losses = []
        model.train()
        for ids, labels in batches(rows, _ROWS, pad, base.seed + step):
            loss = model(input_ids=ids, labels=labels).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            warmup.step()
            optimizer.zero_grad()
            losses.append(float(loss.detach()))
        yield step, sum(losses) / len(losses)


@torch.inference_mode()
def _probe(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, skill: str) -> float:
    """Share of the probe items that a greedy answer gets right."""
    model.eval()
    probed = items(skill, "probe", PROBED)
    prompts = [TEMPLATE.format(prompt=item.prompt) for item in probed]
    batch = tokenizer(prompts, return_tensors="pt", padding=True, return_token_type_ids=False)
    made = model.generate(**batch, do_sample=False, max_new_tokens=64)
    texts = tokenizer.batch_decode(made[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    right = sum(
        SKILLS[skill].is_right(item, text) for item, text in zip(probed, texts, strict=True)
    )
    return right / len(probed)


def _save(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, record: object, out: Path
) -> None:
    with atomic_folder(out) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n")
