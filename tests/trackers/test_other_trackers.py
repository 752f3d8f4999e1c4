"""TensorBoard, Weights & Biases and trackio: what they show is what the training logged."""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from tests.trackers.mlflow_server import need_mlflow
from tests.trackers.tracked_run import make_config
from tspin.records.training_log import read_train_log

pytestmark = pytest.mark.trackers

ROOT = Path(__file__).parents[2]

TENSORBOARD = """
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator("iter-0/tensorboard").Reload()
shown = [[event.step, event.value] for event in events.Scalars("train/loss")]
"""
# The file that `wandb sync` sends; wandb 0.31 reads it in Go only: seven bytes, then LevelDB's log
# format. Blocks of 32 KiB hold records in parts, each behind a checksum, its length and a type.
WANDB = """
from pathlib import Path
from wandb.proto import wandb_internal_pb2
(file,) = Path("wandb").glob("offline-run-*/run-*.wandb")
data, at, parts, shown = file.read_bytes(), 7, b"", []
while at + 7 <= len(data):
    if 32768 - at % 32768 < 7:
        at += 32768 - at % 32768
        continue
    size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
    parts, at = parts + data[at + 7 : at + 7 + size], at + 7 + size
    if kind not in (1, 4):
        continue
    record, parts = wandb_internal_pb2.Record.FromString(parts), b""
    keys = {i.key or ".".join(i.nested_key): json.loads(i.value_json) for i in record.history.item}
    if "train/loss" in keys:
        shown.append([keys["train/global_step"], keys["train/loss"]])
"""
TRACKIO = """
from trackio.sqlite_storage import SQLiteStorage
logs = SQLiteStorage.get_logs("huggingface", "FOLDER/iter-0")
shown = [[row["train/global_step"], row["train/loss"]] for row in logs if "train/loss" in row]
"""


def python(folder: Path, *arguments: str, **variables: str) -> str:
    """The trackers' Python with the libraries of this one, which come first."""
    paths = [str(ROOT), str(ROOT / "build/packages"), *os.environ.get("PYTHONPATH", "").split(":")]
    done = subprocess.run(
        [f"{need_mlflow()}/python", *arguments],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": ":".join([*paths, sysconfig.get_path("purelib")]),
            "HOME": str(folder),
            "HF_HOME": str(folder / "hf"),
            "TRACKIO_DIR": str(folder / "trackio"),
            "WANDB_MODE": "offline",
            "WANDB__SERVICE_WAIT": "600",  # For its own process to start; 30 by default.
            **variables,
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("tracker", "read"), [("tensorboard", TENSORBOARD), ("wandb", WANDB), ("trackio", TRACKIO)]
)
def test_the_values_are_those_of_the_log(
    tracker: str, read: str, tmp_path: Path, tiny_model_dir: Path
) -> None:
    make_config(tmp_path, tiny_model_dir)
    command = ["-m", "tspin", "train", "--model", str(tiny_model_dir), "--out", "iter-0/model"]
    settings: dict[str, Any] = {
        "train.method": "sft",
        "train.global_batch_size": 4,
        "train.epochs": 1,
        "prompt.template": "instruction",
        "system.num_processes": 1,
        "system.report_to": f"[{tracker}]",
    }
    given = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    python(tmp_path, *command, "--triplets", "annotated.jsonl", *given)
    code = read.replace("FOLDER", tmp_path.name) + "print(json.dumps(shown))"
    shown = json.loads(python(tmp_path, "-c", f"import json\n{code}").splitlines()[-1])
    rows = read_train_log(tmp_path / "iter-0/train_log.jsonl")
    assert len(rows) == 3
    assert shown == [[row["step"], pytest.approx(row["loss"], rel=1e-4)] for row in rows]
