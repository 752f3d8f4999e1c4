"""Configurations and held-out records for the tests of the evaluate step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tspin.config import RunConfig
from tspin.records.records import AnnotatedRecord, Message, write_records


def config_of(model: Path, **sections: dict[str, Any]) -> RunConfig:
    """A configuration for the fake engine on a CPU; `settings` are those of the model."""
    return RunConfig.model_validate(
        {
            "run_dir": "runs/x",
            "model": {"path": str(model), **sections.pop("settings", {})},
            "data": sections.pop("data", {"annotated": "a.jsonl"}),
            "prompt": {"max_length": 128, **sections.pop("prompt", {})},
            "generate": {"max_new_tokens": 12, "engine": "fake", **sections.pop("generate", {})},
            "system": {
                "device": "cpu",
                "generate_batch_size": 4,
                "tokens_per_device": 100,
                **sections.pop("system", {}),
            },
            **sections,
        }
    )


def records_of(count: int) -> list[AnnotatedRecord]:
    return [
        AnnotatedRecord(
            id=f"r{row}",
            messages=[Message(role="user", content=f"How many apples are {row} and {row * row}?")],
            response=f"So {row} and {row * row} are {row + row * row}. The answer is {row}.",
        )
        for row in range(count)
    ]


def write_heldout(path: Path, count: int = 10) -> Path:
    """A file of held-out records."""
    write_records(path, records_of(count))
    return path
