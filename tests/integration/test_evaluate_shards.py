"""An evaluation in shards: the files of one in one piece, whoever makes which shard, and when."""

from __future__ import annotations

import random
import shutil
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

import tspin.evaluate.answers
import tspin.evaluate.sharing
import tspin.evaluate.step
from tests import warm
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
from tspin.records.seconds import SECONDS
from tspin.runs.folder import EvaluationFiles

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
    """All but the seconds that each took."""
    paths = [path for path in out.parent.iterdir() if not path.name.endswith(SECONDS)]
    return {path.name: path.read_bytes() for path in paths}


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
    assert len(together) == 17
    assert together.keys() == whole.keys()
    assert [name for name in whole if together[name] != whole[name]] == []


def test_a_shard_of_shards_is_that_shard(folder: Path, shards: list[Path], tmp_path: Path) -> None:
    """As a pod's that has several GPUs: 2/3 from 2/6 and 5/6."""
    parts = [made(folder, tmp_path / f"{at}/metrics.json", f"{at}/6") for at in (2, 5)]
    joined = merged(folder, parts, tmp_path / "joined/metrics.json", of=Shard(2, 3))
    assert files(joined) == files(shards[2])


@pytest.mark.long
def test_processes_make_the_files_of_one(
    folder: Path, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", warm.python())
    out = tmp_path / "several/metrics.json"
    config = config_of(folder, num_processes=2)
    # The last that the process does which puts the shards together.
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("tspin.evaluate.shards.processes.remove", _killed)
        made(folder, out, config=config)
    assert (tmp_path / "several/.metrics.json.shards").exists()
    made(folder, out, config=config)
    assert files(out) == whole


def _killed(path: Path) -> None:
    raise KeyboardInterrupt


@pytest.mark.long
def test_a_process_that_fails_fails_all_and_the_next_try_goes_on(
    folder: Path, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", warm.python())
    out = tmp_path / "several/metrics.json"
    config = config_of(folder, num_processes=2)
    finished = made(folder, out.with_name(".metrics.json.shards") / "0-of-2/metrics.json", "0/2")
    obstacle = finished.parents[1] / "1-of-2/metrics.greedy.jsonl"
    obstacle.mkdir(parents=True)
    with pytest.raises(TspinError, match=r"1-of-2/.*Is a directory"):
        made(folder, out, config=config)
    assert not out.exists()
    assert finished.is_file()
    obstacle.rmdir()
    made(folder, out, config=config)
    assert files(out) == whole


def test_an_engine_is_started_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For greedy, sampled and fitted answers, and not at all where all are there."""
    opened, closed = [], []
    own = tspin.evaluate.answers.open_engine

    def counted(*given: Any) -> Any:
        engine = own(*given)
        opened.append(engine)
        close = engine.close
        monkeypatch.setattr(engine, "close", lambda: (closed.append(engine), close()))
        return engine

    monkeypatch.setattr(tspin.evaluate.answers, "open_engine", counted)
    out = made(folder, tmp_path / "a/metrics.json", "0/3")
    assert len(opened) == len(closed) == 1
    out.unlink()
    made(folder, out, "0/3")
    assert len(opened) == 1


def test_only_a_lost_shard_is_made_again(
    folder: Path, shards: list[Path], whole: dict[str, bytes], tmp_path: Path
) -> None:
    """A kill after its greedy answers; the others are current, and load nothing."""
    copies = []
    for shard in shards:
        shutil.copytree(shard.parent, tmp_path / shard.parent.name)
        copies.append(tmp_path / shard.parent.name / "metrics.json")
    lost = EvaluationFiles(copies[1])
    for path in (copies[1], lost.answers("sampled"), lost.task("both")):
        path.unlink()
    with pytest.raises(InputError, match="expected the evaluation of a shard"):
        merged(folder, copies, tmp_path / "early/metrics.json")
    with pytest.MonkeyPatch.context() as patched:
        for module in (tspin.evaluate.step, tspin.evaluate.sharing):
            patched.setattr(module, "load_policy", None)
        for at in (0, 2):
            made(folder, copies[at], f"{at}/3")
    made(folder, copies[1], "1/3")
    assert files(merged(folder, copies, tmp_path / "merged/metrics.json")) == whole


def test_shards_that_make_no_whole_are_refused(
    folder: Path, shards: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "merged/metrics.json"

    def other(name: str, config: RunConfig, **given: Any) -> Path:
        return made(folder, tmp_path / name / "metrics.json", "2/3", config, **given)

    plain = config_of(folder)
    evaluation = plain.evaluate.model_copy(update={"tasks": (), "fit_temperature": False})
    bare = plain.model_copy(update={"evaluate": evaluation})
    wider = bare.system.model_copy(update={"generate_batch_size": 4})
    blocks = other("blocks", bare.model_copy(update={"system": wider}))
    later = other("later", bare, iteration=3)
    seeded = other("seeded", bare.model_copy(update={"seed": 7}))
    first = [made(folder, tmp_path / f"{at}/metrics.json", f"{at}/3", bare) for at in range(2)]
    for given, message in (
        (first, "is shard 0/3, but 2 files are given"),
        ([*first, first[1]], "both are shard 1/3"),
        ([*first, later], "their iteration differs: 3 and 2"),
        ([*first, blocks], r"their parameters differs: \{'shard_block': 16\} and .*: 8\}"),
        ([*first, seeded], "their seed differs: 7 and 0"),
        ([*shards[:2], seeded], r"their inputs differs: \{'task_folder': None\} and"),
        ([*first, folder / "whole/metrics.json"], "expected the evaluation of a shard"),
    ):
        with pytest.raises(InputError, match=message):
            merged(folder, given, out)
    text = first[1].with_name("metrics.greedy.jsonl")
    text.write_bytes(text.read_bytes()[:-2] + b" }")
    with pytest.raises(InputError, match=r"metrics\.greedy\.jsonl: its content is not what"):
        merged(folder, [*first, other("third", bare)], out)
    assert not out.exists()


def test_answers_at_unequal_temperatures_are_refused(
    folder: Path, shards: list[Path], tmp_path: Path
) -> None:
    copy = tmp_path / "1/metrics.json"
    shutil.copytree(shards[1].parent, copy.parent)
    path = EvaluationFiles(copy).temperature
    values = orjson.loads(path.read_bytes())
    path.write_bytes(orjson.dumps(values | {"value": values["value"] * 1.001}))
    with pytest.raises(InputError, match="have the fitted temperatures"):
        merged(folder, [shards[0], copy, shards[2]], tmp_path / "merged/metrics.json")


def test_answers_to_other_questions_are_refused(
    folder: Path, shards: list[Path], tmp_path: Path
) -> None:
    questions = folder / "tasks/questions.jsonl"
    before = questions.read_bytes()
    questions.write_bytes(b"\n".join(before.splitlines()[::-1]))
    try:
        with pytest.raises(InputError, match="is not what the shards were made with"):
            merged(folder, shards, tmp_path / "merged/metrics.json")
    finally:
        questions.write_bytes(before)
