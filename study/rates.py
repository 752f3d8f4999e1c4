"""The learning rate of each method: all are tried on validation with the same budget."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from study.arms import Arm
from study.protocol import SELECTION_SEED, Cell, Protocol
from study.results import RESULTS, Results
from study.skills import SKILLS
from tspin.files import write_json

if TYPE_CHECKING:
    from study.stages import Study

__all__ = ["CHOSEN", "choose_rates"]

CHOSEN = "learning_rates.json"
"""In a cell's folder: by name, the rate of each arm that takes no other arm's."""


def choose_rates(study: Study, cell: Cell) -> dict[str, float]:
    """By name, the rate of each arm that takes no other arm's.

    The best is the one with the highest mean of greedy and sampled exactness after any of its
    iterations; among equals the lower negative log-likelihood there, then the lower rate.

    Args:
        study: All work of a protocol.
        cell: Skill, and the base on which rates are chosen.
    """
    path = study.folder(cell) / CHOSEN
    if not path.is_file():
        chosen = _chosen_before(study.protocol, cell.skill)
        arms = {
            name: arm
            for name, arm in study.protocol.arms.items()
            if arm.paced is None and name not in chosen
        }
        scores: dict[str, list[tuple[float, float, float]]] = {name: [] for name in arms}
        for rate in study.protocol.learning_rates:
            for row in _try_rate(study, cell, arms, rate):
                trained = [m for label, m in row["by_iteration"].items() if label != "base"]
                score = max(_score(metrics, cell) for metrics in trained)
                scores[row["name"]].append((*score, -rate))
        write_json(path, chosen | {name: -max(tried)[-1] for name, tried in scores.items()})
    rates: dict[str, float] = json.loads(path.read_bytes())
    return rates


def _chosen_before(protocol: Protocol, skill: str) -> dict[str, float]:
    """What an earlier protocol chose on the same base for the arms that both have."""
    if protocol.rates_of is None:
        return {}
    runs = Results.read(RESULTS / f"{protocol.rates_of}.parquet").runs
    return {
        row["arm"]: row["learning_rate"]
        for row in runs
        if row["skill"] == skill and row["arm"] in protocol.arms
    }


def _try_rate(
    study: Study, cell: Cell, arms: Mapping[str, Arm], rate: float
) -> list[dict[str, Any]]:
    """All of these arms at one learning rate, as compare.json tells of them."""
    out = study.selected(cell, rate)
    iterations = study.protocol.selection_iterations
    options = ["--set", f"seed={SELECTION_SEED}", "--set", f"iterations={iterations}"]
    if cell.base in study.protocol.searches:  # Part of the search.
        options += study.measure_kept(cell, "validation")
    for name, arm in arms.items():
        options += arm.options(name, rate)
    study.play(cell, [arm.asked(name) for name, arm in arms.items()], out, options)
    rows: list[dict[str, Any]] = json.loads((out / "compare.json").read_bytes())["arms"]
    return rows


def _score(metrics: dict[str, Any], cell: Cell) -> tuple[float, float]:
    name = f"exact_match/{SKILLS[cell.skill].extractor}"
    exact = [metrics[f"{name}/{mode}"]["value"] for mode in ("greedy", "sampled")]
    return sum(exact) / 2, -metrics["nll_per_token"]["value"]
