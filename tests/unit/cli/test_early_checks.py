"""What is wrong with the inputs is said before torch is imported, which takes seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import json, sys
from typer.testing import CliRunner
from tspin.cli.main import app
outcomes = []
for command in json.loads(sys.argv[1]):
    error = CliRunner().invoke(app, command).exception
    outcomes.append((getattr(error, "exit_code", None), str(error)))
print(json.dumps(outcomes))
"""

REFUSAL = "raise ImportError('torch or transformers was imported')"

OUT = ["--out", "out"]
ANNOTATED = ["--annotated", "annotated.jsonl"]
RESPONSES = ["--synthetic", "responses.jsonl", "--proto", "responses.jsonl"]

CASES: list[tuple[list[str], str]] = [
    (["generate", "--model", "model", "--annotated", "absent.jsonl"], "absent.jsonl: no such file"),
    (["generate", "--model", "model", "--annotated", "broken.jsonl"], "broken.jsonl:1: not a JSON"),
    (["generate", "--model", "./absent", *ANNOTATED], "model './absent': no such folder"),
    (["generate", "--model", "empty", *ANNOTATED], "model 'empty': has neither config.json"),
    (["generate", "--model", "model", *ANNOTATED, "--shard", "4/4"], "shard is '4/4'"),
    (["train", "--model", "model", "--triplets", "absent.jsonl"], "absent.jsonl: no such file"),
    (["train", "--model", "model", "--triplets", "annotated.jsonl"], "annotated.jsonl:1: field"),
    (["train", "--model", "./absent", "--triplets", "triplets.jsonl"], "'./absent': no such"),
    (
        [
            *("train", "--model", "./absent", "--set", "train.method=sft"),
            *("--triplets", "annotated.jsonl"),
        ],
        "model './absent': no such folder",
    ),
    (["build-triplets", "--annotated", "absent.jsonl", *RESPONSES], "absent.jsonl: no such file"),
    (
        ["build-triplets", *ANNOTATED, "--synthetic", "annotated.jsonl", "--proto", "absent.jsonl"],
        "annotated.jsonl:1: field",
    ),
    (["evaluate", "--model", "model", "--annotated", "absent.jsonl"], "absent.jsonl: no such file"),
    (["evaluate", "--model", "./absent", *ANNOTATED], "model './absent': no such folder"),
    (
        ["evaluate", "--model", "model", *ANNOTATED, "--proto", "absent.jsonl"],
        "absent.jsonl: no such file",
    ),
]

RUNS: list[tuple[str, str]] = [
    ("data.annotated=absent.jsonl", "data.annotated is 'absent.jsonl': no such file"),
    ("data.heldout=absent.jsonl", "data.heldout is 'absent.jsonl': no such file"),
    ("data.heldout=broken.jsonl", "broken.jsonl:1: not a JSON object"),
    ("model.path=./absent", "model './absent': no such folder"),
]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int | None, str]]:
    """Exit code and message of every command, from a process where torch cannot be imported."""
    folder = tmp_path_factory.mktemp("inputs")
    record = {"id": "1", "prompt": "p"}
    response = {"finish_reason": "stop", "prompt_tokens": 1, "response_tokens": 1, "seed": 0}
    triplet = {"annotated": "a", "synthetic": "b", "proto_synthetic": "c"}
    for name, line in {
        "annotated": json.dumps({**record, "response": "r"}),
        "responses": json.dumps({"id": "1", "response": "r", **response}),
        "triplets": json.dumps({**record, **triplet}),
        "broken": "{",
    }.items():
        (folder / f"{name}.jsonl").write_text(f"{line}\n")
    for name in ("model", "empty", "refusing/torch", "refusing/transformers"):
        (folder / name).mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (folder / "model" / name).write_text("{}")
    for name in ("torch", "transformers"):
        (folder / "refusing" / name / "__init__.py").write_text(REFUSAL)
    values = {"run_dir": "run", "model": {"path": "model"}, "data": {"annotated": ANNOTATED[1]}}
    (folder / "run.yaml").write_text(json.dumps(values))
    commands = [[*command, *OUT] for command, _ in CASES]
    commands += [[name, "--config", "run.yaml", "--set", setting] for name, setting in _runs()]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(commands)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": _path(folder / "refusing")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert not (folder / "out").exists()
    assert not (folder / "run").exists()
    return [tuple(outcome) for outcome in json.loads(done.stdout)]


def _path(first: Path) -> str:
    return os.pathsep.join([str(first), str(Path(__file__).parents[3])])


def _runs() -> list[tuple[str, str]]:
    return [(name, setting) for name in ("run", "compare") for setting, _ in RUNS]


MESSAGES = [message for _, message in CASES] + [message for _, message in RUNS] * 2
NAMES = [" ".join(command) for command, _ in CASES] + [" ".join(run) for run in _runs()]


@pytest.mark.parametrize("number", range(len(MESSAGES)), ids=NAMES)
def test_a_wrong_input_is_refused_before_torch(
    outcomes: list[tuple[int | None, str]], number: int
) -> None:
    code, message = outcomes[number]
    assert MESSAGES[number] in message
    assert code == 2


def test_good_inputs_do_reach_the_step(tmp_path: Path) -> None:
    """Or the commands above would prove nothing: what they must not import is out of reach."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(REFUSAL)
    done = subprocess.run(
        [sys.executable, "-c", "import tspin.generate.step"],
        env=os.environ | {"PYTHONPATH": _path(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert "torch or transformers was imported" in done.stderr
