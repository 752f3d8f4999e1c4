"""Bases that have grown up and know the annotator's form: nearer to the papers' Zephyr.

Zephyr was fine-tuned on the dialogues that self-play then goes on with. So these bases go on from a
base of `bases.BASES`, or the demo's, until their pre-training has converged, and are then tuned for
a while on the same mixture with some of one skill's answers in the annotator's form.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, cast

import torch
import typer
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM
from transformers import PreTrainedTokenizerFast as Tokenizer

from study.bases import RECORD, make_bases, probe
from study.items import corpus
from study.protocol import BASES, KNOWN_BASES, base_folder
from study.skills import SKILLS
from tspin import demo
from tspin.demo.corpus import Exercise
from tspin.demo.pretrain import batches, encode
from tspin.files import atomic_folder

__all__ = ["make_known"]

MATURING = 2_500
"""Steps of further pre-training; its learning rate falls to 0."""
TUNING, TRIES = 50, 12
"""Steps of the first tuning that is tried, and how many are; each starts from the grown base."""
FORM_SHARE = 0.5
"""Of the taught skill's answers while tuning: in the annotator's form."""
UNSATURATED = (0.2, 0.7)
"""Greedy exactness in the annotator's form after tuning."""
DEMO_CHECKPOINT, DEMO_SEED = Path(demo.__file__).with_name("base"), 3
_ROWS, _WARMUP = 32, 50
_LEARNING_RATE = 3e-3


def make_known(out: Path, name: str, skills: list[str]) -> None:
    """One such base for each skill, the first that is neither ignorant nor saturated.

    Args:
        out: The study's folder.
        name: In `KNOWN_BASES`, or `DEMO_BASE`.
        skills: Skills to make it for; those in place are left alone.

    Raises:
        RuntimeError: no tuning of a skill ends within `UNSATURATED`.
    """
    missing = [skill for skill in skills if not (base_folder(out, name, skill) / RECORD).is_file()]
    if not missing:
        return
    if name in KNOWN_BASES:
        make_bases(out, KNOWN_BASES[name], list(SKILLS))
    grown = _grown(out, name)
    for skill in missing:
        model, tokenizer, facts = _tuned(grown, _seed(name), skill)
        _save(base_folder(out, name, skill), model, tokenizer, facts)


def _tuned(
    grown: Path, seed: int, skill: str
) -> tuple[LlamaForCausalLM, Tokenizer, dict[str, Any]]:
    """Twice as long from try to try until it does something; halfway back where that is too long.

    Raises:
        RuntimeError: it is never within `UNSATURATED`.
    """
    low, high, steps = 0, None, TUNING
    for _ in range(TRIES):
        model, tokenizer = _load(grown)
        _train(model, tokenizer, corpus(seed, form=skill, share=FORM_SHARE), steps)
        exact = probe(model, tokenizer, skill, annotated=True)
        typer.echo(f"{grown.parent.name}, {skill}, {steps} steps: {exact:.3f}")
        if UNSATURATED[0] <= exact <= UNSATURATED[1]:
            return model, tokenizer, {"skill": skill, "steps": steps, "annotated": exact}
        low, high = (steps, high) if exact < UNSATURATED[0] else (low, steps)
        steps = 2 * steps if high is None else (low + high) // 2
    raise RuntimeError(f"{grown.parent.name}: {skill} is within {UNSATURATED} after no tuning")


def _grown(out: Path, name: str) -> Path:
    """The latest checkpoint of the base, pre-trained to its end."""
    folder = out / "bases" / name / "grown"
    if not (folder / RECORD).is_file():
        latest = _latest(out, name)
        model, tokenizer = _load(latest)
        # Not the examples that it has seen already.
        _train(model, tokenizer, corpus(100 + _seed(name)), MATURING)
        right = {skill: probe(model, tokenizer, skill) for skill in SKILLS}
        typer.echo(f"base {name}, grown: {right}")
        _save(folder, model, tokenizer, {"from": latest.name, "right": right})
    return folder


def _latest(out: Path, name: str) -> Path:
    """The checkpoint that it goes on from."""
    if name not in KNOWN_BASES:
        return DEMO_CHECKPOINT
    checkpoints = [base_folder(out, KNOWN_BASES[name], skill) for skill in SKILLS]
    return max(checkpoints, key=lambda path: json.loads((path / RECORD).read_bytes())["step"])


def _seed(name: str) -> int:
    return BASES[KNOWN_BASES[name]].seed if name in KNOWN_BASES else DEMO_SEED


def _load(folder: Path) -> tuple[LlamaForCausalLM, Tokenizer]:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return cast(LlamaForCausalLM, model), cast(Tokenizer, AutoTokenizer.from_pretrained(folder))


def _save(out: Path, model: LlamaForCausalLM, tokenizer: Tokenizer, facts: object) -> None:
    with atomic_folder(out) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        (folder / RECORD).write_text(json.dumps(facts, indent=2) + "\n")


def _train(
    model: LlamaForCausalLM,
    tokenizer: Tokenizer,
    examples: Iterator[Exercise],
    steps: int,
) -> None:
    """AdamW over so many batches; the learning rate rises, then falls to 0."""
    rows = [encode(tokenizer, example) for example in islice(examples, steps * _ROWS)]
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=_LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0.01
    )
    model.train()
    pad = int(tokenizer.pad_token_id)
    for step, (ids, labels) in enumerate(batches(rows, _ROWS, pad, seed=steps)):
        for group in optimizer.param_groups:
            group["lr"] = _LEARNING_RATE * min(1.0, (step + 1) / _WARMUP) * (1 - step / steps)
        model(input_ids=ids, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
