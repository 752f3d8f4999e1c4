"""The parts of the benchmark of training steps that need no training."""

from __future__ import annotations

from pathlib import Path
from statistics import mean

import orjson
import pytest

from benchmarks.markdown import replace_section, table
from benchmarks.training.gsm8k import gsm8k_lengths
from benchmarks.training.lengths import PROFILES, TripletLengths, padded_positions
from benchmarks.training.longest_batch import largest
from benchmarks.training.result import profile_result
from benchmarks.training.rounds import Round
from benchmarks.training.scaling import Cost, growth
from benchmarks.training.task import Task


@pytest.mark.parametrize(
    ("name", "prompt", "response"),
    [
        ("ultrachat-like", 200, 300),
        ("long-prompt", 1500, 150),
        ("short", 50, 50),
        ("equal", 200, 300),
        ("long-prompt-equal", 1500, 150),
    ],
)
def test_a_profile_has_the_lengths_that_it_is_named_for(
    name: str, prompt: int, response: int
) -> None:
    lengths = PROFILES[name].make(400, 0)
    assert mean(row.prompt for row in lengths) == pytest.approx(prompt, rel=0.1)
    for role in range(3):
        assert mean(row.responses[role] for row in lengths) == pytest.approx(response, rel=0.05)
    assert lengths == PROFILES[name].make(400, 0)
    longest = max(row.prompt + max(row.responses) for row in lengths)
    assert longest <= (4096 if name.startswith("long-prompt") else 2048)


def test_padding_is_counted_batch_by_batch() -> None:
    lengths = [TripletLengths(2, (3, 1, 9)), TripletLengths(4, (4, 2, 9))]
    # Rows of 5, 3 | 8, 6 tokens: y0 is not in them.
    assert padded_positions(lengths, batch=1) == (2 * 5 + 2 * 8, 22)
    assert padded_positions(lengths, batch=2) == (4 * 8, 22)


def test_gsm8k_counts_tokens_of_published_rows(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    rows = [{"question": f"What is {i}?", "answer": "12 " * (i + 1)} for i in range(40)]
    path.write_bytes(b"\n".join(orjson.dumps(row) for row in rows))
    lengths = gsm8k_lengths(path, count=10, seed=0)
    assert len(lengths) == 10
    assert all(row.prompt > 1 and min(row.responses) > 1 for row in lengths)
    assert len({row.responses for row in lengths}) > 1


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 7, 8, 9, 100])
def test_the_largest_that_fits_is_found(limit: int) -> None:
    assert largest(lambda number: number <= limit) == limit


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_growth_is_the_exponent(power: float) -> None:
    costs = [Cost(1, tokens, 3 * tokens**power) for tokens in (1000, 3000, 16000)]
    assert growth(costs) == pytest.approx(power)


def test_ratios_are_medians_of_ratios_within_a_round() -> None:
    task = Task("short", batch=2, steps=1, model="toy", folder="")
    rounds = [
        Round(
            {"tspin": own, "tspin_iteration0": 2.0, "trl_reference": peer, "trl_precomputed": 4.0},
            mfu={},
        )
        for own, peer in [(1.0, 3.0), (2.0, 8.0), (4.0, 4.0)]  # Ratios 3, 4, 1.
    ]
    found = profile_result(task, rounds, {"tspin": 3, "trl_reference": 4})
    assert found["ratios"] == {
        "vs_trl_reference": 3.0,
        "vs_trl_precomputed": 2.0,
        "iteration0_vs_trl_reference": 2.0,
        "peak_memory_vs_trl_reference": 0.75,
    }
    assert found["spread"]["vs_trl_reference"] == [1.0, 4.0]
    assert found["per_second"]["tspin"] == 1.0  # Two triplets in 1, 2 and 4 s.


def test_a_section_of_a_document_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text("before\n<!-- speed -->\nold \\1\n<!-- /speed -->\nafter\n")
    replace_section(document, "speed", table(["a"], [["\\1"]]))
    expected = "<!-- speed -->\n\n| a |\n| --- |\n| \\1 |\n\n<!-- /speed -->"
    assert document.read_text() == f"before\n{expected}\nafter\n"
    with pytest.raises(ValueError, match="memory"):
        replace_section(document, "memory", "")
