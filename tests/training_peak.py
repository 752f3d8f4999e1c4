"""Peak memory of a training in its own process: `python -m tests.training_peak SPEC MODEL FOLDER`.

Prints, as JSON, how far resident memory rose above where it stood before (bytes), and what
`tspin.machine.memory` had estimated for it.
"""

from __future__ import annotations

import gc
import json
import random
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tspin.config import RunConfig
from tspin.machine.memory import Hardware, estimate_memory
from tspin.models.policy import load_tokenizer
from tspin.models.shape import model_shape
from tspin.records.records import Message, Triplet, write_records
from tspin.train.step import train

TINY = {"model_type": "llama", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


def resident(kind: str) -> int:
    """Bytes: `VmRSS` now, `VmHWM` at most since the last reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(dict(line.split(":") for line in lines)[kind].split()[0]) * 1024


def make(spec: dict[str, Any], tokenizer_from: str, folder: Path) -> tuple[RunConfig, Path]:
    """A random model and triplets whose every row nearly fills max_length."""
    tokenizer = load_tokenizer(tokenizer_from, _config(spec, folder).model)
    settings = {"vocab_size": 4000, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3}
    config = AutoConfig.for_model(**settings | spec["architecture"])
    AutoModelForCausalLM.from_config(config).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    used = len(tokenizer("### Instruction: q0\n\n### Response: ")["input_ids"])
    draw = random.Random(0)

    def response() -> str:
        return "".join(draw.choice("qxzjkvwy") for _ in range(spec["max_length"] - used - 4))

    rows = [
        Triplet(
            id=str(number),
            messages=[Message(role="user", content=f"q{number}")],
            annotated=response(),
            synthetic=response(),
            proto_synthetic=response(),
        )
        for number in range(2 * spec["batch"])
    ]
    write_records(folder / "triplets.jsonl", rows)
    return _config(spec, folder), folder / "triplets.jsonl"


def _config(spec: dict[str, Any], folder: Path) -> RunConfig:
    return RunConfig.model_validate(
        {
            "run_dir": str(folder),
            "iterations": 2,
            "model": {"path": str(folder / "model"), "dtype": spec.get("dtype", "auto")},
            "data": {"annotated": "unused"},
            "prompt": {"max_length": spec["max_length"], "template": "instruction"},
            "generate": {"max_new_tokens": 1},
            "train": {
                "global_batch_size": spec["batch"],
                "epochs": 1,
                "learning_rate": 1e-4,
                **spec.get("train", {}),
            },
            "system": {
                "device": "cpu",
                "tokens_per_device": 3 * spec["batch"] * spec["max_length"],
                "logps_chunk_size": 256,
                **spec.get("system", {}),
            },
        }
    )


def run(config: RunConfig, triplets: Path, folder: Path) -> None:
    """Two steps with all three responses."""
    train(config, model=config.model.path, triplets=triplets, iteration=1, out=folder / "out")


def main() -> None:
    """Train something tiny first, so that everything is imported, then measure."""
    spec, tokenizer_from, folder = json.loads(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    torch.set_num_threads(1)
    torch.manual_seed(0)
    tiny = {**spec, "architecture": TINY, "batch": 2, "max_length": 64}
    for name, made in (("tiny", tiny), ("real", spec)):
        (folder / name).mkdir()
        config, triplets = make(made, tokenizer_from, folder / name)
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # Forget the highest mark so far.
        before = resident("VmRSS")
        run(config, triplets, folder / name)
    shape = model_shape(config.model, config.train.lora)
    hardware = Hardware(gpu=False, bfloat16=config.model.dtype == "bfloat16", processes=1)
    estimate = estimate_memory(shape, config, hardware)
    result = {
        "measured": resident("VmHWM") - before,
        "estimated": estimate.total - estimate.overhead,
        "parts": estimate.parts(),
    }
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
