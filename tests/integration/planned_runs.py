"""Small runs of the demo's kind, for the tests of plans."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tspin.demo.demo import BASE, demo_records

NEW = 8


def write_data(folder: Path, annotated: int, heldout: int) -> None:
    for name, split, count in (("a", "train", annotated), ("h", "heldout", heldout)):
        rows = demo_records(split, count)  # type: ignore[arg-type]
        lines = "".join(f"{json.dumps(row)}\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines)


def sections(folder: Path, **changes: Any) -> dict[str, Any]:
    return {
        "run_dir": str(folder / "run"),
        "iterations": 2,
        "model": {"path": str(BASE)},
        "data": {"annotated": str(folder / "a.jsonl"), "heldout": str(folder / "h.jsonl")},
        "prompt": {"template": "instruction", "max_length": 256},
        # The base writes more than this where it is not sampled, and so does the annotator: lengths
        # are known beforehand.
        "generate": {"max_new_tokens": NEW, "temperature": 0},
        "train": {"epochs": 2, "learning_rate": 1e-4, "global_batch_size": 8},
        "system": {"device": "cpu", "threads": 1},
    } | changes
