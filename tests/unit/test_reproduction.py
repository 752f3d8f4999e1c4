"""The study's parts: skills and their verifiers, splits, pre-training on target, verdicts."""

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

from benchmarks.reproduction import bases, known
from benchmarks.reproduction.claims import PLAIN, SPIN, verdicts
from benchmarks.reproduction.confirming import above
from benchmarks.reproduction.data import corpus, items, write_annotated
from benchmarks.reproduction.frontier import advantage, found, points
from benchmarks.reproduction.judging import paired
from benchmarks.reproduction.markdown import as_markdown
from benchmarks.reproduction.protocol import CONTROL, PILOT, TSPIN, Cell
from benchmarks.reproduction.signs import alarm, collect_signs
from benchmarks.reproduction.skills import SKILLS, split_of
from benchmarks.reproduction.study import Study
from benchmarks.reproduction.tradeoff import reached
from tspin.answers import find_extractor
from tspin.records import AnnotatedRecord, read_records
from tspin.run_folder import BASE, RunFolder


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
    monkeypatch.setitem(bases.BASES, "weak", bases.Base(hidden=32, layers=1, target=0.35, seed=0))
    looks: list[int] = []

    def probe(model: Any, tokenizer: Any, skill: str) -> float:
        looks.append(1)
        return [0.0, 0.9, 0.0, 0.33][min(len(looks) - 1, 3)]

    monkeypatch.setattr(bases, "probe", probe)
    bases.make_bases(tmp_path, "weak", ["sums"])
    folder = bases.base_folder(tmp_path, "weak", "sums")
    assert '"step": 12,' in (folder / bases.RECORD).read_text()  # 8, then two slices of 2.
    assert (folder / "model.safetensors").is_file()
    made = (folder / "model.safetensors").stat().st_mtime_ns
    bases.make_bases(tmp_path, "weak", ["sums"])
    assert (folder / "model.safetensors").stat().st_mtime_ns == made


def test_processes_with_other_cells_prepare_one_after_the_other(
    tmp_path: Path,
) -> None:
    """As two processes that were started together, each with cells of its own."""
    protocol = dataclasses.replace(PILOT, annotated=8, validation=4, test=4, kept=4)
    folder = bases.base_folder(tmp_path, "weak", "sums")
    folder.mkdir(parents=True)
    (folder / bases.RECORD).write_text("{}")
    together = threading.Barrier(4)

    def prepare(_: int) -> None:
        together.wait()
        Study(tmp_path, protocol).prepare([Cell("sums", "weak")])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(prepare, range(4)))
    assert len(list((tmp_path / "data").glob("*.jsonl"))) == 5 * len(SKILLS)


@pytest.mark.parametrize("within", [True, False])
def test_a_base_that_knows_the_form_is_taken_where_it_is_not_saturated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model_dir: Path, within: bool
) -> None:
    """Each tuning starts from the grown base; other skills' answers stay the base's own."""
    for skill, step in (("arithmetic", 3), ("extraction", 9), ("sums", 5)):
        folder = bases.base_folder(tmp_path, "weak", skill)
        shutil.copytree(tiny_model_dir, folder)
        (folder / bases.RECORD).write_text(f'{{"step": {step}}}')
    monkeypatch.setattr(known, "MATURING", 2)
    monkeypatch.setattr(known, "TUNING", 2)
    monkeypatch.setattr(known, "TRIES", 3)
    looks = iter([0.1, 0.9, 0.6] if within else [0.1, 0.9, 0.8])

    def probe(model: Any, tokenizer: Any, skill: str, *, annotated: bool = False) -> float:
        return next(looks) if annotated else 1.0

    monkeypatch.setattr(known, "probe", probe)
    if not within:
        with pytest.raises(RuntimeError, match="sums is within"):
            known.make_known(tmp_path, "weak-known", ["sums"])
        assert not bases.base_folder(tmp_path, "weak-known", "sums").exists()
        return
    known.make_known(tmp_path, "weak-known", ["sums"])
    grown = json.loads((tmp_path / "bases/weak-known/grown" / bases.RECORD).read_text())
    assert grown["from"] == "extraction"  # The latest.
    made = bases.base_folder(tmp_path, "weak-known", "sums")
    assert (
        json.loads((made / bases.RECORD).read_text())["steps"] == 3
    )  # Of 2, 4 and what lies between.
    before = (made / "model.safetensors").stat().st_mtime_ns
    known.make_known(tmp_path, "weak-known", ["sums"])
    assert (made / "model.safetensors").stat().st_mtime_ns == before


def test_tuning_shows_some_answers_of_one_skill_in_the_annotators_form() -> None:
    examples = list(islice(corpus(0, form="extraction", share=0.25), 2000))
    listed = [example.response for example in examples if example.prompt.startswith("List")]
    share = sum(text.startswith("{day: ") for text in listed) / len(listed)
    assert 0.2 < share < 0.3
    assert not any("Parts: " in each.response for each in examples)
    plain = islice(corpus(0), 2000)
    assert not any(example.response.startswith("{day: ") for example in plain)


def make_row(arm: str, seed: int, greedy: list[float], test: float, kept: float) -> dict[str, Any]:
    """A run with this exactness by iteration and on test."""
    share = {SPIN: 0.5}.get(arm, 0.0)
    iterations = [
        {
            "greedy": value,
            "train/logps/annotated": -1.0 + 0.01 * seed,
            "train/logps/synthetic": -5.0,
            "train/rewards/higher_but_less_likely": share + 0.01 * seed,
        }
        for value in greedy
    ]
    scores = {
        "annotated/greedy": test,
        "annotated/sampled": test,
        "right/greedy": test,
        "nll_per_token": 1.0,
        "retained/greedy": kept,
        "retained/sampled": kept,
        "retained/nll_per_token": 1.0,
        "distinct_bigrams": 0.5,
        "differs_from_greedy": 0.5,
    }
    cost = {"generated_tokens": 1, "trained_tokens": 1, "flops": 1.0, "seconds": {"train": 1.0}}
    return {
        "skill": "sums",
        "base": "weak",
        "arm": arm,
        "seed": seed,
        "learning_rate": 1e-4,
        "epochs": 2,
        "cost": cost,
        "test": dict.fromkeys(("base", "best", "last"), scores),
        "iterations": iterations,
    }


def make_rows(tspin_test: float = 0.9, spin_last: float = 0.4) -> list[dict[str, Any]]:
    rows = []
    for seed in range(3):
        noise = 0.01 * seed
        rows += [
            make_row(TSPIN, seed, [0.5, 0.7, 0.9 + noise], tspin_test + noise, 0.6 + noise),
            make_row(PLAIN, seed, [0.4, 0.5, 0.6 + noise], 0.6, 0.6),
            make_row(SPIN, seed, [0.5, 0.8, spin_last + noise], 0.4, 0.4),
            make_row("sft", seed, [0.5, 0.7, 0.8], 0.8, 0.3),
            make_row(CONTROL, seed, [0.5, 0.7, 0.8], 0.8, 0.3),
        ]
    return rows


def words(rows: list[dict[str, Any]]) -> list[str]:
    return [each.word for each in verdicts(rows, [])]


def test_verdicts_follow_from_the_rows() -> None:
    yes = "confirmed"
    assert words(make_rows()) == [yes, yes, yes, yes, "not run", yes]
    found = words(make_rows(tspin_test=0.5))
    assert found[1] == "contradicted"
    assert found[5] == "not confirmed"  # Worse in what is taught, better in what is kept.
    assert words(make_rows(spin_last=0.9))[0] == "not confirmed"
    assert words([]) == ["not run"] * 6


def test_differences_pair_seeds_and_need_two() -> None:
    rows = make_rows()
    found = paired(rows, TSPIN, PLAIN, lambda row: row["test"]["best"]["annotated/greedy"])
    assert found is not None
    assert (found.value, found.n) == (pytest.approx(0.31), 3)
    assert paired(rows[:5], TSPIN, PLAIN, lambda row: 0.0) is None


def test_the_markdown_holds_every_method_and_verdict() -> None:
    from dataclasses import asdict

    rows = make_rows()
    result = {
        "protocol": {},
        "rows": rows,
        "verdicts": [asdict(each) for each in verdicts(rows, [])],
    }
    text = as_markdown(result)
    assert text.count("**confirmed**") == 5
    for arm in (TSPIN, PLAIN, SPIN, CONTROL, "sft"):
        assert f"| {arm} |" in text
    assert "xychart-beta" in text


def search_row(
    skill: str, arm: str, seed: int, greedy: float, kept: float, part: str = "search"
) -> dict[str, Any]:
    values = {"greedy": greedy, "sampled": greedy, "nll_per_token": 1.0}
    values |= {"retained/greedy": kept, "retained/nll_per_token": 1.0}
    told = {"skill": skill, "base": "weak", "part": part, "arm": arm, "seed": seed}
    return {**told, "best": values}


def gain(arm: str, rows: list[dict[str, Any]]) -> float | None:
    made = points(rows)
    return advantage(next(each for each in made if each.arm == arm), made)


def test_a_regime_wins_where_it_beats_the_control_at_its_best_rate() -> None:
    rows = []
    for seed, noise in ((1001, 0.0), (1002, 0.01)):
        rows += [
            search_row("sums", "matched", seed, 0.8 + noise, 0.3),
            search_row("sums", "matched_gentle", seed, 0.5, 0.5),  # Not the best rate.
            search_row("sums", "gentle", seed, 0.8 + noise, 0.4),  # As exact, keeps more.
            search_row("sums", "papers", seed, 0.9, 0.2),  # More exact, keeps less.
            search_row("sums", "falling", seed, 0.7, 0.9),  # The other way about.
            search_row("sums", "few", seed, 0.4, 0.3),
            search_row("sums", "few_matched", seed, 0.3, 0.3),  # The control of few pairs.
            search_row("sums", "sft@0.25", seed, 0.6, 0.6),  # SFT with less compute.
        ]
    made = points(rows)
    assert [each.values["greedy"] for each in made if each.arm == "matched"] == [
        pytest.approx(0.805)
    ]
    wins = {"papers": [], "gentle": ["sums"], "falling": [], "few": ["sums"]}
    assert found(made) == wins
    gains = {each.arm: advantage(each, made) for each in made if not each.regime.control}
    # "gentle" lies between plain SFT and "matched", "papers" and "falling" beyond all of SFT.
    between = 0.6 + 2 / 3 * (0.805 - 0.6)
    assert gains["gentle"] == pytest.approx(0.805 - between)
    assert gains["papers"] == pytest.approx(0.9 - 0.805)
    assert gains["falling"] == pytest.approx(0.7 - 0.6)
    assert gains["few"] == pytest.approx(0.4 - 0.3)
    slow = search_row("sums", "sft@0.25", 1000, 0.7, 0.9, part="rate-0.0001")
    assert gain("falling", [*rows, slow]) == pytest.approx(0)
    assert found(points([*rows, slow])) == wins
    still = search_row("sums", "base", 1001, 0.81, 0.4)  # Not trained at all.
    assert gain("gentle", [*rows, still]) == pytest.approx(0.805 - 0.81)
    assert found(points([*rows, still])) == wins
    later = search_row("sums", "alpha_tenth", 1001, 0.9, 0.4, part="unsaturated-1001")
    assert found(points([*rows, later])) == {**wins, "alpha_tenth": ["sums"]}
    protocol = {"searches": {"weak": "new"}}
    result = {"protocol": protocol, "rows": make_rows(), "verdicts": [], "search": rows}
    assert "| gentle | sums |" in as_markdown(result)


def confirmed_row(arm: str, seed: int, greedy: float, kept: float, **given: Any) -> dict[str, Any]:
    values = {"annotated/greedy": greedy, "annotated/sampled": 0.1, "retained/greedy": kept}
    base = {"annotated/greedy": 0.3, "annotated/sampled": 0.1, "retained/greedy": 0.9}
    told = {"skill": "sums", "base": "strong-known", "arm": arm, "seed": seed, "control": False}
    return {**told, "test": {"base": base, "best": values, "last": values}, **given}


def test_what_is_confirmed_pairs_with_sft_of_the_same_base_and_seed() -> None:
    rows = []
    for seed, noise in ((2001, 0.0), (2002, 0.1), (2003, 0.2)):
        rows += [
            confirmed_row("gentle", seed, 0.5 + noise, 0.8),
            confirmed_row("matched", seed, 0.5 + noise, 0.7, control=True),
        ]
    told = above(rows, "gentle", "last", "annotated/greedy")
    # Halfway between the base and "matched": 0.4, 0.45 and 0.5.
    assert (told.value, told.n) == (pytest.approx(0.15), 3)
    assert told.low is not None and told.low == pytest.approx(
        0.15 - 4.3027 * 0.05 / 3**0.5, abs=1e-4
    )
    assert above(rows, "gentle", "best", "annotated/sampled").value == pytest.approx(0)
    result = {"protocol": {}, "rows": make_rows(), "verdicts": [], "confirmed": rows}
    assert "| sums | gentle | last | 0.150 (0.026 to 0.274) |" in as_markdown(result)


@pytest.mark.parametrize(
    ("kept", "exact"), [(0.95, 0.2), (0.9, 0.2), (0.7, 0.5), (0.5, 0.8), (0.0, 0.8)]
)
def test_sft_reaches_mixtures_of_its_policies(kept: float, exact: float) -> None:
    assert reached([(0.9, 0.2), (0.8, 0.3), (0.5, 0.8)], kept) == pytest.approx(exact)


def test_what_falls_below_the_initial_policy_is_damage(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "final/seed-0/sft")
    for number, greedy in ((BASE, 0.5), (0, 0.3), (1, 0.48)):
        made = run.iteration(number)
        made.path.mkdir(parents=True)
        values = {"exact_match/exact/greedy": greedy, "exact_match/exact/sampled": 0.1}
        metrics = {
            name: {"value": value} for name, value in {**values, "nll_per_token": 1.0}.items()
        }
        made.metrics.write_text(json.dumps({"metrics": metrics}))
        row = {"step": 1, "logps/annotated": -4.0, "lengths/annotated": 4.0}
        (made.path / "train_log.jsonl").write_text(json.dumps(row) + "\n")
    (run.path / "config.json").write_text("{}")
    signs = list(collect_signs(tmp_path / "final", tmp_path))
    assert [(row["iteration"], row["worse"]) for row in signs] == [(0, True), (1, False)]


def test_a_threshold_is_judged_by_what_became_of_the_policy() -> None:
    values = [(True, 0.9), (True, 0.3), (False, 0.6), (False, 0.1), (False, 0.2), (True, None)]
    rows = [{"worse": worse, "saturated_share": share} for worse, share in values]
    found = alarm(rows, "saturated_share", 0.5)
    assert (found.caught, found.damaged) == (1, 2)
    assert (found.false, found.sound) == (1, 3)
