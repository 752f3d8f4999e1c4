"""Makes the demo's base model from a seed: `python -m tspin.demo.pretrain --out DIR --seed 0`.

The shipped checkpoint in `tspin/demo/base` was made this way with the default options, in about
11 CPU minutes on one core. `pretraining.json` beside the weights records how.
"""

import hashlib
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tspin.demo.corpus import Exercise, corpus_head
from tspin.demo.tokenizer import MAX_LENGTH, train_tokenizer

TEMPLATE = "### Instruction: {prompt}\n\n### Response: "
"""The papers' instruction template, which the project uses where a model has none of its own."""

TOKENIZER_EXAMPLES = 5_000
IGNORED = -100
RECORD = "pretraining.json"
WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Settings:
    """How long and how fast to pre-train, and from which seed."""

    seed: int = 0
    steps: int = 5_000
    batch_size: int = 32
    learning_rate: float = 3e-3
    warmup_steps: int = 100
    threads: int = 1


@dataclass(frozen=True)
class Result:
    """The base model, its tokenizer, and the loss of every step in nats per response token."""

    model: LlamaForCausalLM
    tokenizer: PreTrainedTokenizerFast
    losses: list[float]


def make_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """Train the tokenizer on the head of the corpus, rendered as the model will see it."""
    examples = corpus_head(seed, TOKENIZER_EXAMPLES)
    return train_tokenizer(
        TEMPLATE.format(prompt=example.prompt) + example.response for example in examples
    )


def make_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """Make the untrained model of about 0.4 million parameters."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=96,
        intermediate_size=288,
        num_hidden_layers=3,
        num_attention_heads=3,
        max_position_embeddings=MAX_LENGTH,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)  # type: ignore[no-untyped-call]


def encode(tokenizer: PreTrainedTokenizerFast, example: Exercise) -> tuple[list[int], list[int]]:
    """Tokenise prompt and response apart, as generation and fine-tuning do.

    Returns:
        The prompt's ids after the beginning token, and the response's ids before the end token.
    """
    prompt = tokenizer.encode(TEMPLATE.format(prompt=example.prompt), add_special_tokens=False)
    response = tokenizer.encode(example.response, add_special_tokens=False)
    return [int(tokenizer.bos_token_id), *prompt], [*response, int(tokenizer.eos_token_id)]


def batches(
    rows: list[tuple[list[int], list[int]]], size: int, pad: int, seed: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield padded ids and labels, one batch a step, of rows similar in length.

    Args:
        rows: Token ids and labels of the corpus.
        size: Rows a batch.
        pad: Token id that fills up shorter rows.
        seed: Of the order.
    """
    rng = random.Random(f"batches-{seed}")
    groups = []
    pool = 32 * size
    for start in range(0, len(rows), pool):
        block = sorted(rows[start : start + pool], key=lambda row: len(row[0]) + len(row[1]))
        chunks = [block[i : i + size] for i in range(0, len(block), size)]
        rng.shuffle(chunks)
        groups.extend(chunks)
    for group in groups:
        width = max(len(prompt) + len(response) for prompt, response in group)
        ids = torch.full((len(group), width), pad)
        labels = torch.full((len(group), width), IGNORED)
        for row, (prompt, response) in enumerate(group):
            length = len(prompt) + len(response)
            ids[row, :length] = torch.tensor(prompt + response)
            labels[row, len(prompt) : length] = torch.tensor(response)
        yield ids, labels


def pretrain(settings: Settings) -> Result:
    """Make the base model: tokenizer, corpus, and one pass of AdamW over it.

    Args:
        settings: The seed and the length of the training.

    Returns:
        The model, the tokenizer and the losses.
    """
    tokenizer = make_tokenizer(settings.seed)
    model = make_model(tokenizer, settings.seed)
    with _threads(settings.threads):
        losses = _train(model, tokenizer, settings)
    return Result(model, tokenizer, losses)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Let torch compute with so many threads inside the block: sums are rounded by how many."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _train(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, settings: Settings
) -> list[float]:
    examples = corpus_head(settings.seed, settings.steps * settings.batch_size)
    rows = [encode(tokenizer, example) for example in examples]
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, betas=(0.9, 0.99), weight_decay=0.01
    )
    schedule = torch.optim.lr_scheduler.SequentialLR(
        optimizer,
        [
            torch.optim.lr_scheduler.LinearLR(optimizer, 0.01, total_iters=settings.warmup_steps),
            torch.optim.lr_scheduler.CosineAnnealingLR(
                optimizer, max(1, settings.steps - settings.warmup_steps)
            ),
        ],
        [settings.warmup_steps],
    )
    losses = []
    pad = int(tokenizer.pad_token_id)
    for step, (ids, labels) in enumerate(
        batches(rows, settings.batch_size, pad, settings.seed), start=1
    ):
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
        if step % 100 == 0 or step == settings.steps:
            recent = losses[-100:]
            typer.echo(f"step {step}/{settings.steps}: loss {sum(recent) / len(recent):.4f}")
    return losses


def save(result: Result, settings: Settings, out: Path) -> None:
    """Write weights, configuration, tokenizer and the record of how they were made.

    Args:
        result: Of `pretrain`.
        settings: It was called with.
        out: The folder.
    """
    result.model.save_pretrained(out)
    result.tokenizer.save_pretrained(out)
    recent = result.losses[-100:]
    record = {
        "settings": asdict(settings),
        "parameters": result.model.num_parameters(),
        "final_loss": round(sum(recent) / len(recent), 4),
        "torch": str(torch.__version__),
        "weights_sha256": hashlib.sha256((out / WEIGHTS).read_bytes()).hexdigest(),
    }
    (out / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def main(
    out: Annotated[Path, typer.Option(help="Folder to write the base model to.")],
    seed: Annotated[int, typer.Option(help="Seed of corpus, weights and order.")] = 0,
    steps: Annotated[int, typer.Option(min=1, help="Training steps.")] = Settings.steps,
) -> None:
    """Pre-trains the demo's base model from a seed."""
    settings = Settings(seed=seed, steps=steps, warmup_steps=min(Settings.warmup_steps, steps))
    save(pretrain(settings), settings, out)
    typer.echo(f"wrote {out}")


if __name__ == "__main__":
    typer.run(main)
