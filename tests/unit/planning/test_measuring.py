"""What is measured: a piece of the model, with the method's own steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tspin.config import RunConfig
from tspin.errors import InputError
from tspin.planning import measuring, piece
from tspin.planning.measuring import measure
from tspin.planning.piece import Piece
from tspin.planning.sizes import Sizes
from tspin.records.records import AnnotatedRecord, Message, write_records


def configuration(folder: Path, model: Path, **sections: Any) -> RunConfig:
    rows = [
        AnnotatedRecord(
            id=str(at),
            messages=[Message(role="user", content="Name a city. " * (at % 2 + 1))],
            response="So is Athens. " * (at % 3 + 1),
        )
        for at in range(8)
    ]
    write_records(folder / "a.jsonl", rows)
    values: dict[str, Any] = {
        "run_dir": str(folder / "run"),
        "iterations": 2,
        "model": {"path": str(model)},
        "data": {"annotated": str(folder / "a.jsonl")},
        "prompt": {"template": "instruction", "max_length": 128},
        "generate": {"max_new_tokens": 16},
        "system": {"device": "cpu", "threads": 1},
    }
    return RunConfig.model_validate(values | sections)


SDFT = {"method": "sdft", "sdft_template": "So {prompt} {demonstration}"}


@pytest.mark.parametrize(
    "train",
    [{"method": "tspin"}, {"method": "sft"}, {"method": "spin"}, {"lora": {"r": 2}}, SDFT],
    ids=["tspin", "sft", "spin", "lora", "sdft"],
)
def test_every_method_can_be_measured(
    train: dict[str, Any], tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "_SECONDS", 0.1)
    config = configuration(tmp_path, tiny_model_dir, train=train)
    sizes = Sizes.of(config)
    rates = measure(config, sizes, tmp_path / "a.jsonl")
    assert rates.layers == (2, 2)
    assert min(rates.training, rates.generation, rates.fixed) > 0
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def test_of_a_large_model_some_layers_are_measured(
    tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configuration(tmp_path, tiny_model_dir)
    sizes = Sizes.of(config)
    monkeypatch.setattr(piece, "_LARGE", sizes.shape.parameters // 2)
    one = Piece.of(config, sizes, tmp_path, threads=1)
    assert (one.sizes.shape.layers, sizes.shape.layers) == (1, 2)
    assert one.sizes.flops.head == sizes.flops.head
    assert one.config.system.num_processes == 1
    # The rate of the piece is the rate of the whole, whose operations are twice the layer's.
    assert sizes.flops.attention == 2 * one.sizes.flops.attention


def test_a_model_without_room_is_not_begun(
    tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(piece, "available_memory", lambda: (100_000, 200_000))
    config = configuration(tmp_path, tiny_model_dir)
    with pytest.raises(InputError, match="of memory, and 0 MiB are free here; name the GPU"):
        Piece.of(config, Sizes.of(config), tmp_path, threads=1)
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]
