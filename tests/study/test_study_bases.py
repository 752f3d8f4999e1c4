"""The study's skills and their verifiers, splits, and pre-training on target."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from study import bases, stages, tuning
from study.items import corpus, items, write_annotated
from study.protocol import BASES, DEMO_BASE, PILOT, Base, Cell, base_folder
from study.rates import CHOSEN
from study.skills import SKILLS, split_of
from study.stages import Study
from tspin.files import write_json
from tspin.records.extractors import find_extractor
from tspin.records.records import AnnotatedRecord, read_records

pytestmark = pytest.mark.study


@pytest.mark.parametrize("name", SKILLS)
def test_annotations_are_right_and_in_form_and_base_answers_never_in_form(name: str) -> None:
    skill, rng = SKILLS[name], random.Random(0)
    drawn = items(name, "train", 200)
    for item in drawn:
        assert skill.is_annotated(item, skill.annotation(item))
        assert skill.is_right(item, skill.annotation(item))
        assert find_extractor(skill.extractor)(skill.annotation(item)) is not None
    own = [(item, skill.base_answer(item, rng)) for item in drawn]
    assert not any(skill.is_annotated(item, text) for item, text in own)
    right = sum(skill.is_right(item, text) for item, text in own) / len(own)
    assert 0.85 < right < 1  # In whatever wording, but for slips.


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("arithmetic", lambda text: text.replace("=", "= 1", 1)),
        ("extraction", lambda text: text.replace("count: ", "count: 1")),
        ("sums", lambda text: text.replace("and ", "and 1", 1)),
    ],
)
def test_a_slip_in_the_annotators_form_is_seen(name: str, wrong: Any) -> None:
    for item in items(name, "train", 20):
        text = wrong(SKILLS[name].annotation(item))
        assert not SKILLS[name].is_annotated(item, text)


@pytest.mark.parametrize("name", SKILLS)
def test_splits_share_nothing_and_pretraining_sees_train_alone(name: str) -> None:
    keys = {
        split: {item.key for item in items(name, split, 64)} for split in ("test", "validation")
    }
    assert len(keys["test"]) == 64
    assert not keys["test"] & keys["validation"]
    prompts = {item.prompt for item in items(name, "test", 512)}
    examples = corpus(0)
    seen = {next(examples).prompt for _ in range(3000)}
    later = items(name, "test", 8, skip=3)
    assert later == items(name, "test", 11)[3:]
    # Prompts of sums and problems may be told alike; what decides the split may not.
    assert all(split_of(item.key) == "test" for item in items(name, "test", 64))
    assert len(prompts & seen) <= 3000 * 0.001


def test_records_follow_from_the_skill_and_own_answers_are_the_bases(tmp_path: Path) -> None:
    write_annotated(tmp_path / "a.jsonl", "sums", "test", 5)
    write_annotated(tmp_path / "b.jsonl", "sums", "test", 5, own=True)
    theirs = list(read_records(tmp_path / "a.jsonl", AnnotatedRecord))
    own = list(read_records(tmp_path / "b.jsonl", AnnotatedRecord))
    for item, record, other in zip(items("sums", "test", 5), theirs, own, strict=True):
        assert record.id == other.id
        assert record.response == SKILLS["sums"].annotation(item)
        assert not SKILLS["sums"].is_annotated(item, other.response)


def test_a_base_is_taken_where_its_skill_is_on_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A skill that jumps from nothing to nearly all within a block is caught on the way."""
    monkeypatch.setattr(bases, "_BLOCK", 8)
    monkeypatch.setattr(bases, "_SLICE", 2)
    monkeypatch.setitem(BASES, "weak", Base(hidden=32, layers=1, target=0.35, seed=0))
    looks: list[int] = []

    def probe(model: Any, tokenizer: Any, skill: str) -> float:
        looks.append(1)
        return [0.0, 0.9, 0.0, 0.33][min(len(looks) - 1, 3)]

    monkeypatch.setattr(bases, "probe", probe)
    bases.make_bases(tmp_path, "weak", ["sums"])
    folder = base_folder(tmp_path, "weak", "sums")
    assert '"step": 12,' in (folder / bases.RECORD).read_text()  # 8, then two slices of 2.
    assert (folder / "model.safetensors").is_file()
    before = (folder / "model.safetensors").stat().st_mtime_ns
    bases.make_bases(tmp_path, "weak", ["sums"])
    assert (folder / "model.safetensors").stat().st_mtime_ns == before


def test_processes_with_other_cells_prepare_one_after_the_other(
    tmp_path: Path,
) -> None:
    """As two processes that were started together, each with cells of its own."""
    protocol = dataclasses.replace(PILOT, annotated=8, validation=4, test=4, kept=4)
    folder = base_folder(tmp_path, "weak", "sums")
    folder.mkdir(parents=True)
    (folder / bases.RECORD).write_text("{}")
    together = threading.Barrier(4)

    def prepare(_: int) -> None:
        together.wait()
        Study(tmp_path, protocol).prepare([Cell("sums", "weak")])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(prepare, range(4)))
    assert len(list((tmp_path / "data").glob("*.jsonl"))) == 5 * len(SKILLS)


def test_a_base_that_rates_are_chosen_on_is_not_made_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a cell can be run on a machine that has only the rates of another one."""
    protocol = dataclasses.replace(
        PILOT, annotated=8, validation=4, test=4, kept=4, selected_on="middle"
    )
    study, made = Study(tmp_path, protocol), []
    monkeypatch.setattr(stages, "make_bases", lambda out, name, skills: made.append((name, skills)))
    wanted = [Cell("sums", "weak"), Cell("extraction", "weak")]
    write_json(study.folder(Cell("sums", "middle")) / CHOSEN, {"tspin@0.25": 1e-3})
    study.prepare(wanted)
    assert made == [("weak", ["sums", "extraction"]), ("middle", ["extraction"])]
    assert study.select(wanted[0]) == {"tspin@0.25": 1e-3}


@pytest.mark.parametrize("within", [True, False])
def test_a_base_that_knows_the_form_is_taken_where_it_is_not_saturated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model_dir: Path, within: bool
) -> None:
    """Each tuning starts from the grown base; other skills' answers stay the base's own."""
    for skill, step in (("arithmetic", 3), ("extraction", 9), ("sums", 5)):
        folder = base_folder(tmp_path, "weak", skill)
        shutil.copytree(tiny_model_dir, folder)
        (folder / bases.RECORD).write_text(f'{{"step": {step}}}')
    monkeypatch.setattr(tuning, "MATURING", 2)
    monkeypatch.setattr(tuning, "TUNING", 2)
    monkeypatch.setattr(tuning, "TRIES", 3)
    looks = iter([0.1, 0.9, 0.6] if within else [0.1, 0.9, 0.8])

    def probe(model: Any, tokenizer: Any, skill: str, *, annotated: bool = False) -> float:
        return next(looks) if annotated else 1.0

    monkeypatch.setattr(tuning, "probe", probe)
    if not within:
        with pytest.raises(RuntimeError, match="sums is within"):
            tuning.make_known(tmp_path, "weak-known", ["sums"])
        assert not base_folder(tmp_path, "weak-known", "sums").exists()
        return
    tuning.make_known(tmp_path, "weak-known", ["sums"])
    grown = json.loads((tmp_path / "bases/weak-known/grown" / bases.RECORD).read_text())
    assert grown["from"] == "extraction"  # The latest.
    tuned = base_folder(tmp_path, "weak-known", "sums")
    assert (
        json.loads((tuned / bases.RECORD).read_text())["steps"] == 3
    )  # Of 2, 4 and what lies between.
    before = (tuned / "model.safetensors").stat().st_mtime_ns
    tuning.make_known(tmp_path, "weak-known", ["sums"])
    assert (tuned / "model.safetensors").stat().st_mtime_ns == before


def test_the_demos_base_goes_on_from_what_is_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "MATURING", 1)
    monkeypatch.setattr(tuning, "TUNING", 1)
    monkeypatch.setattr(tuning, "probe", lambda *_, annotated=False: 0.5)
    tuning.make_known(tmp_path, DEMO_BASE, ["sums"])
    assert {path.name for path in (tmp_path / "bases").iterdir()} == {DEMO_BASE}
    shipped = load_file(tuning.DEMO_CHECKPOINT / "model.safetensors")
    tuned = load_file(base_folder(tmp_path, DEMO_BASE, "sums") / "model.safetensors")
    assert tuned.keys() == shipped.keys()
    # Two steps of AdamW away: each moves a weight by about the learning rate, which only warms up.
    far = max(float((tuned[name] - shipped[name]).abs().max()) for name in shipped)
    assert 0 < far < 0.01


def test_tuning_shows_some_answers_of_one_skill_in_the_annotators_form() -> None:
    examples = list(islice(corpus(0, form="extraction", share=0.25), 2000))
    listed = [example.response for example in examples if example.prompt.startswith("List")]
    share = sum(text.startswith("{day: ") for text in listed) / len(listed)
    assert 0.2 < share < 0.3
    assert not any("Parts: " in example.response for example in examples)
    plain = islice(corpus(0), 2000)
    assert not any(example.response.startswith("{day: ") for example in plain)
