"""Run folders written by hand in the layout of the design, for the tests of the report."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from tspin.config import RunConfig, resolved
from tspin.files import write_json
from tspin.records.manifest import Manifest, write_manifest
from tspin.records.records import AnnotatedRecord, Message, Response, Triplet, write_records
from tspin.records.seconds import WORK, Phase, StepName, StepSeconds, seconds_path

SCRIPT = "<script>document.title = 'taken over'; console.error('ran')</script>"
"""What a hostile model might write."""

EXACT = "exact_match/answer_is/greedy"


def make_run(
    path: Path,
    *,
    iterations: int = 3,
    planned: int = 3,
    method: str = "tspin",
    heldout: bool = True,
    steps: int = 48,
    stopped: str | None = None,
) -> Path:
    """A run folder with this many finished iterations."""
    path.mkdir(parents=True, exist_ok=True)
    config = RunConfig.model_validate(
        {
            "run_dir": "runs/demo",
            "iterations": planned,
            "model": {"path": "models/base"},
            "data": {"annotated": "a.jsonl", "heldout": "h.jsonl" if heldout else None},
            "train": {"method": method},
            "evaluate": {"extractors": ["answer_is"]},
            "gate": {"metric": EXACT, "direction": "max"},
        }
    )
    write_json(path / "config.json", resolved(config))
    if heldout:
        (path / "base").mkdir(exist_ok=True)
        make_evaluation(path / "base", -1, method)
    for number in range(iterations):
        make_iteration(path / f"iter-{number}", number, method=method, heldout=heldout, steps=steps)
    if iterations:
        best = {"iteration": iterations - 1, "model": f"iter-{iterations - 1}/model"}
        value = metrics(iterations - 1, method)["metrics"][EXACT]["value"] if heldout else None
        write_json(
            path / "best.json", {**best, "metric": EXACT, "value": value, "stopped": stopped}
        )
    return path


def make_iteration(path: Path, number: int, *, method: str, heldout: bool, steps: int) -> None:
    model = path / "model"
    model.mkdir(parents=True, exist_ok=True)
    (model / "config.json").write_text("{}")
    counts = {"triplets": 12, "past_saturated_share": 7 if number == 2 else 0}
    identity = f"policy-{number}"
    write_manifest(model, Manifest(kind="model", iteration=number, model=identity, counts=counts))
    if heldout:
        make_evaluation(path, number, method)
    if method != "sft":
        records = [triplet(row, number) for row in range(12)]
        write_records(path / "triplets.jsonl", records)
        counts = {"triplets": len(records)}
        write_manifest(path / "triplets.jsonl", Manifest(kind="triplets", counts=counts))
        if number != 1:  # One that nobody has timed.
            make_seconds(path / "triplets.jsonl", "generate", 100.0)
    make_seconds(path / "model", "train", 40.0 * (number + 1))
    rows = (log_row(step, steps, number, method) for step in range(1, steps + 1))
    (path / "train_log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def make_seconds(out: Path, step: StepName, spent: float) -> None:
    """Where the time of an output went: a fifth of it before the step's own work."""
    before: dict[Phase, float] = {"imports": 0.1 * spent, "loading": 0.1 * spent}
    seconds = StepSeconds(step=step, work="w", before=before, after={WORK[step]: 0.8 * spent})
    write_json(seconds_path(out), seconds.model_dump(mode="json"))


def make_evaluation(path: Path, number: int, method: str) -> None:
    make_seconds(path / "metrics.json", "evaluate", 20.0)
    write_json(path / "metrics.json", metrics(number, method))
    shown = [triplet(row, number) for row in range(3)]
    records = [
        AnnotatedRecord(id=each.id, messages=each.messages, response=each.annotated)
        for each in shown
    ]
    write_records(path / "metrics.samples.jsonl", records)
    answers = [
        Response(
            id=each.id,
            response=f"Answer {number}: {each.synthetic}",
            finish_reason="stop",
            prompt_tokens=9,
            response_tokens=5,
            seed=0,
        )
        for each in shown
    ]
    write_records(path / "metrics.greedy.jsonl", answers)


def metrics(number: int, method: str) -> dict[str, Any]:
    """What an evaluation of a run that goes well might hold."""
    progress = 1 - math.exp(-(number + 1))

    def rate(share: float) -> dict[str, Any]:
        reach = 1.96 * math.sqrt(max(share * (1 - share), 0.01) / 256)
        low, high = max(0.0, share - reach), min(1.0, share + reach)
        return {"value": share, "low": low, "high": high, "n": 256}

    def mean(value: float, reach: float) -> dict[str, Any]:
        return {"value": value, "low": value - reach, "high": value + reach, "n": 256}

    found = {
        "nll_per_token": mean(0.9 - 0.6 * progress, 0.03),
        EXACT: rate(progress),
        "exact_match/answer_is/sampled": rate(0.8 * progress),
        "logps/annotated": mean(-60 + 40 * progress, 2.5),
        "logps_per_token/annotated": mean(-0.9 + 0.6 * progress, 0.03),
        "response_tokens/annotated": mean(62.0, 1.0),
        "response_tokens/greedy": mean(30 + 32 * progress, 2.0),
        "response_tokens/sampled": mean(26 + 36 * progress, 3.0),
        "truncated/greedy": rate(0.1 * (1 - progress)),
        "truncated/sampled": rate(0.15 * (1 - progress)),
    }
    if method != "sft":
        found["logps/synthetic"] = mean(-40 + 20 * progress, 2.0)
        found["margins/annotated_synthetic"] = mean(-20 + 18 * progress, 3.0)
        found["accuracies/annotated_synthetic"] = rate(0.2 + 0.3 * progress)
        if number >= 0:
            found["margins/synthetic_proto_synthetic"] = mean(10 + 6 * number, 3.0)
            found["accuracies/synthetic_proto_synthetic"] = rate(0.7 + 0.05 * number)
    return {"iteration": number, "model": "m", "records": 256, "metrics": found}


def triplet(row: int, number: int) -> Triplet:
    start = 7 + row
    right = (
        f"{start} + 3 = {start + 3}.\nSo {start + 3} - 2 = {start + 1}. The answer is {start + 1}."
    )
    proto = f"I think about {start * 2} <b>shells</b>. {SCRIPT}"
    return Triplet(
        id=f"record-{row}",
        messages=[
            Message(
                role="user",
                content=f"Mia has {start} shells. She finds 3 and gives away 2. How many now?",
            )
        ],
        annotated=right,
        synthetic=(proto, f"{start} + 3 = {start + 3}. {SCRIPT}", right)[min(max(number, 0), 2)],
        proto_synthetic=proto,
        synthetic_finish_reason="length" if number == 1 else "stop",
    )


def log_row(step: int, steps: int, number: int, method: str) -> dict[str, Any]:
    """One logged step; noise from a fixed formula, so that equal calls give equal rows."""
    done = (step / steps + number) / 3
    noise = math.sin(step * 12.9898 + number * 78.233) * 2
    row: dict[str, Any] = {"step": step, "epoch": 2 * step / steps, "learning_rate": 3e-5}
    row |= {"grad_norm": 80.0 + noise, "loss": 2 * math.exp(-4 * done) + 0.05 * (2 + noise)}
    row |= {"logps/annotated": -60 + 40 * done + noise, "lengths/annotated": 62 + noise}
    row["logps_per_token/annotated"] = row["logps/annotated"] / 62
    if method == "sft":
        return row
    others = {"synthetic": -45.0 - 25 * done}
    if number and method != "spin":
        others["proto_synthetic"] = -50.0 - 60 * done
    for role, value in others.items():
        row[f"logps/{role}"] = value + 1.5 * noise
        row[f"logps_per_token/{role}"] = (value + 1.5 * noise) / 40
        row[f"rewards/{role}"] = value + 1.5 * noise
        row[f"lengths/{role}"] = 30 + 10 * number + noise
    row["rewards/annotated"] = row["logps/annotated"]
    row["rewards/margins"] = row["rewards/annotated"] - row["rewards/synthetic"]
    row["rewards/accuracies"] = min(1.0, 0.5 + done / 2)
    row["rewards/saturated"] = 0.9 * done
    row["rewards/higher_but_less_likely"] = 0.4 if method == "spin" else 0.0
    row["identical"] = 0.02 * number
    return row
