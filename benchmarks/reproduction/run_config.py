"""The configuration of a cell's runs, before the options of one comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from benchmarks.reproduction.protocol import Protocol
from tspin.files import atomic_file

__all__ = ["write_config"]


def write_config(
    path: Path, protocol: Protocol, extractor: str, *, model: Path, annotated: Path, heldout: Path
) -> None:
    """Write a configuration that `tspin compare` and `tspin run` read.

    Args:
        path: The file; runs are made beside it, in `run`.
        protocol: Its iterations, epochs and batch size.
        extractor: Finds the answer in the annotator's form.
        model: The base.
        annotated: Records of the split `train`.
        heldout: Records of the split `validation`.
    """
    config: dict[str, Any] = {
        "run_dir": str(path.with_name("run")),
        "iterations": protocol.iterations,
        "model": {"path": str(model)},
        "data": {"annotated": str(annotated), "heldout": str(heldout)},
        "prompt": {"template": "instruction", "max_length": 256},
        "generate": {"max_new_tokens": 80},
        "train": {
            "epochs": protocol.epochs,
            "global_batch_size": protocol.global_batch_size,
        },
        "evaluate": {"extractors": [extractor]},
        "gate": {"metric": f"exact_match/{extractor}/greedy", "direction": "max"},
        "system": {"generate_batch_size": 128},
    }
    with atomic_file(path) as file:
        file.write(yaml.safe_dump(config, sort_keys=False).encode())
