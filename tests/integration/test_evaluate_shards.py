"""An evaluation in shards: the files of one in one piece, whoever makes which shard, and when."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

import tspin.evaluate.answers
import tspin.evaluate.step
from tspin.config import RunConfig
from tspin.demo.demo import BASE, TASKS
from tspin.demo.problems import distinct_problems
from tspin.demo.questions import question
from tspin.errors import InputError, TspinError
from tspin.evaluate.shards.merging import merge_evaluations
from tspin.evaluate.step import evaluate
from tspin.generate.shards import Shard
from tspin.generate.step import generate
from tspin.records.records import AnnotatedRecord, Message, write_records

pytestmark = pytest.mark.integration

COUNT = 22
"""Records and questions: of records three blocks of eight at two a batch."""


@pytest.fixture(autouse=True)
def _caches(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets", reason="lm-eval is not installed")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Held-out records, y0 to them, and the demo's tasks on the same problems with a group."""
    folder = tmp_path_factory.mktemp("shards")
    tasks, rng = folder / "tasks", random.Random(0)
    tasks.mkdir()
    problems = distinct_problems(0, "heldout", COUNT)
    questions = [orjson.dumps(question(problem, rng)) for problem in problems]
    (tasks / "questions.jsonl").write_bytes(b"\n".join(questions))
    for source in TASKS.glob("*.yaml"):
        (tasks / source.name).write_bytes(source.read_bytes())
    choice = yaml.safe_load((tasks / "demo_choice.yaml").read_text())
    for name, shots in (("none", 0), ("two", 2)):
        values = choice | {"task": name, "num_fewshot": shots, "fewshot_split": "test"}
        (tasks / f"{name}.yaml").write_text(yaml.safe_dump(values))
    group = {"group": "both", "task": ["none", "two"], "metadata": {"version": 1.0}}
    group["aggregate_metric_list"] = [{"metric": "acc", "weight_by_size": True}]
    (tasks / "both.yaml").write_text(yaml.safe_dump(group))
    records = [
        AnnotatedRecord(
            id=f"h{number}",
            messages=[Message(role="user", content=problem.prompt)],
            response=problem.annotation,
        )
        for number, problem in enumerate(problems)
    ]
    too_long = Message(role="user", content="apples " * 400)
    records.insert(3, AnnotatedRecord(id="long", messages=[too_long], response="1"))
    write_records(folder / "heldout.jsonl", records)
    generate(
        config_of(folder),
        model=str(BASE),
        annotated=folder / "heldout.jsonl",
        out=folder / "proto.jsonl",
        iteration=0,
    )
    return folder


def config_of(folder: Path, **system: Any) -> RunConfig:
    return RunConfig.model_validate(
        {
            "run_dir": "runs/x",
            "model": {"path": str(BASE)},
            "data": {"annotated": "a.jsonl", "heldout": "h.jsonl"},
            "prompt": {"template": "instruction", "max_length": 256, "over_long": "drop"},
            "generate": {"max_new_tokens": 32, "engine": "transformers"},
            "evaluate": {
                "extractors": ["last_number"],
                "fit_temperature": True,
                "tasks": ["demo_answer", "both"],
                "harness": {"task_folder": str(folder / "tasks"), "fraction": 0.9},
            },
            "system": {
                "device": "cpu",
                "threads": 1,
                "generate_batch_size": 2,
                "tokens_per_device": 300,
                **system,
            },
        }
    )


def made(
    folder: Path, out: Path, shard: str = "0/1", config: RunConfig | None = None, **given: Any
) -> Path:
    settings = {"model": str(BASE), "proto": folder / "proto.jsonl", "iteration": 2, **given}
    evaluate(
        config or config_of(folder),
        annotated=folder / "heldout.jsonl",
        out=out,
        shard=Shard.parse(shard),
        **settings,
    )
    return out


def merged(folder: Path, shards: list[Path], out: Path, **given: Any) -> Path:
    merge_evaluations(shards, annotated=folder / "heldout.jsonl", out=out, **given)
    return out


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.parent.iterdir()}


@pytest.fixture(scope="module")
def whole(folder: Path) -> dict[str, bytes]:
    """The files of an evaluation in one piece."""
    return files(made(folder, folder / "whole/metrics.json"))


@pytest.fixture(scope="module")
def shards(folder: Path) -> list[Path]:
    return [made(folder, folder / f"{at}/metrics.json", f"{at}/3") for at in range(3)]


def test_shards_make_the_files_of_one_piece(
    folder: Path, whole: dict[str, bytes], shards: list[Path], tmp_path: Path
) -> None:
    together = files(merged(folder, shards[::-1], tmp_path / "merged/metrics.json"))
    assert len(together) == 16
    assert together.keys() == whole.keys()
    assert [name for name in whole if together[name] != whole[name]] == []


def test_a_shard_of_shards_is_that_shard(folder: Path, shards: list[Path], tmp_path: Path) -> None:
    """As a pod's that has several GPUs: 2/3 from 2/6 and 5/6."""
    parts = [made(folder, tmp_path / f"{at}/metrics.json", f"{at}/6") for at in (2, 5)]
    joined = merged(folder, parts, tmp_path / "joined/metrics.json", of=Shard(2, 3))
    assert files(joined) == files(shards[2])
