"""The doctor: what it sees, what it says, and that it works where torch is missing."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from transformers import AutoTokenizer

from tspin import doctor
from tspin.config import RunConfig
from tspin.doctor import check_registry, check_s3, doctor_report, models_size
from tspin.machine.check import Check
from tspin.machine.hardware import Gpu, find_gpus
from tspin.machine.packages import TESTED, check_extras, check_packages

H100 = Gpu("H100", 80 * 2**30, 79 * 2**30, bfloat16=True)
T4 = Gpu("T4", 16 * 2**30, 15 * 2**30, bfloat16=False)
ROOT = Path(__file__).parents[2]


def named(checks: list[Check], name: str) -> Check:
    (found,) = [check for check in checks if check.name == name]
    return found


def run_config(folder: Path, base: Path, **sections: object) -> RunConfig:
    (folder / "a.jsonl").write_text('{"id": "1", "prompt": "q", "response": "a"}\n')
    values: dict[str, object] = {
        "run_dir": str(folder / "run"),
        "model": {"path": str(base)},
        "data": {"annotated": str(folder / "a.jsonl")},
        "prompt": {"max_length": 64},
        "generate": {"max_new_tokens": 32},
        "system": {"device": "cpu"},
    }
    return RunConfig.model_validate({**values, **sections})


def test_the_tested_versions_are_those_of_the_constraints() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if re.match(r"[\w.-]+==", line))
    assert {name: pinned[name] for name in TESTED} == TESTED


def test_a_report_without_a_configuration() -> None:
    names = [check.name for check in doctor_report(None)]
    for name in ("Python", "versions", "tspin itself", "extra 'train'", "processors", "memory"):
        assert name in names
    assert "memory for training" not in names


def test_what_bytes_depend_on_stands_in_one_line(
    tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = run_config(tmp_path, tiny_model_dir, system={"device": "cpu", "threads": 5})
    detail = named(doctor_report(config), "arithmetic").detail
    assert re.fullmatch(r"5 threads, cpu, \S+, torch \S+, \w+.*", detail), detail


def test_a_registry_is_probed(tmp_path: Path) -> None:
    uri = str(tmp_path / "registry")
    assert check_registry(uri).detail == f"{uri} can be promoted to; no champion yet"
    assert named(doctor_report(None, uri), "registry").status == "ok"
    (tmp_path / "registry/champion/00000002.json").write_text("{}")
    assert check_registry(uri).status == "fail"
    assert "00000001.json: is missing" in check_registry(uri).detail


def test_a_small_run_fits(tmp_path: Path, tiny_model_dir: Path) -> None:
    checks = doctor_report(run_config(tmp_path, tiny_model_dir))
    assert named(checks, "data.annotated").status == "ok"
    assert named(checks, "data.heldout").status == "warn"
    assert "million parameters" in named(checks, "model").detail
    memory = named(checks, "memory for training")
    assert memory.status == "ok"
    assert memory.detail.startswith("fits: about ")
    assert "activations" in memory.detail
    assert named(checks, "disk for the run").status == "ok"


def test_the_models_of_a_run_are_sized_where_the_model_can_be_read(
    tmp_path: Path, tiny_model_dir: Path
) -> None:
    one, three = (run_config(tmp_path, tiny_model_dir, iterations=count) for count in (1, 3))
    weights = (tiny_model_dir / "model.safetensors").stat().st_size
    size = models_size(one)
    assert size is not None
    assert size == pytest.approx(weights, rel=0.1)
    assert models_size(three) == 3 * size
    assert models_size(run_config(tmp_path, tmp_path / "on-a-claim")) is None


def test_a_run_that_does_not_fit_says_so_and_what_would_help(
    tmp_path: Path, tiny_model_dir: Path
) -> None:
    settings = run_config(
        tmp_path,
        tiny_model_dir,
        prompt={"max_length": 10**6},
        train={"global_batch_size": 512},
        system={"device": "cpu", "tokens_per_device": 10**9, "num_processes": 2},
    )
    memory = named(doctor_report(settings), "memory for training")
    assert memory.status == "fail"
    assert memory.detail.startswith("does not fit: about ")
    assert "2 processes together" in memory.detail
    assert "nothing that can be set here makes it fit: shorten prompt.max_length" in memory.detail


def test_a_gpu_that_is_asked_for_and_not_there(tmp_path: Path, tiny_model_dir: Path) -> None:
    if find_gpus():
        pytest.skip("there is a GPU here")
    settings = run_config(tmp_path, tiny_model_dir, system={"device": "cuda"})
    memory = named(doctor_report(settings), "memory for training")
    assert memory.status == "fail"
    assert "there is no GPU here; it would need about" in memory.detail


def test_missing_inputs_are_named(tmp_path: Path) -> None:
    settings = run_config(tmp_path, tmp_path / "no-model", data={"annotated": "gone.jsonl"})
    checks = doctor_report(settings)
    assert named(checks, "data.annotated").status == "fail"
    assert "no such folder" in named(checks, "model").detail
    assert named(checks, "model").status == "fail"


def test_s3_names_sources_and_never_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "no credentials seen" in check_s3().detail
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "not-to-be-shown-1")
    monkeypatch.setenv("AWS_PROFILE", "not-to-be-shown-2")
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text("not-to-be-shown-3")
    detail = check_s3().detail
    assert "from AWS_ACCESS_KEY_ID, AWS_PROFILE, ~/.aws/credentials" in detail
    assert "not-to-be-shown" not in detail


def test_another_version_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TESTED, "orjson", "1.0.0")
    check = check_packages()
    assert check.status == "warn"
    assert re.search(r"orjson \S+ \(tested: 1\.0\.0\)", check.detail)
    assert "pydantic" not in check.detail


def _core_only(folder: Path) -> Path:
    """A folder of links to the packages that tspin needs without any extra, and to nothing else."""
    folder.mkdir()
    todo, done = ["tspin"], set()
    while todo:
        name = todo.pop()
        if name in done:
            continue
        done.add(name)
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue
        for entry in {path.parts[0] for path in found.files or []} - {".."}:
            if not (folder / entry).exists():
                (folder / entry).symlink_to(found.locate_file(entry))
        for line in found.requires or []:
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                todo.append(requirement.name)
    return folder


def test_it_works_and_says_so_where_torch_is_missing(tmp_path: Path, tiny_model_dir: Path) -> None:
    settings = run_config(tmp_path, tiny_model_dir)
    code = (
        "import json, sys; from tspin.config import RunConfig; "
        "from tspin.doctor import doctor_report; "
        "config = RunConfig.model_validate_json(sys.argv[1]); "
        "print(json.dumps([[c.name, c.status, c.detail] for c in doctor_report(config)]))"
    )
    # Without `site` there are no packages but those of the folder.
    paths = f"{ROOT}{os.pathsep}{_core_only(tmp_path / 'packages')}"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code, settings.model_dump_json()],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert done.returncode == 0, done.stderr
    checks = [Check(*values) for values in json.loads(done.stdout)]
    assert named(checks, "GPUs").detail == "cannot tell: torch is not installed"
    train = named(checks, "extra 'train'")
    assert train.status == "warn"
    assert train.detail.startswith("missing: accelerate, numpy, peft, safetensors, scipy, torch")
    assert "tspin generate, train, evaluate and run need it" in train.detail
    assert named(checks, "tspin itself").status == "ok"
    memory = named(checks, "memory for training")
    assert memory.status == "fail"
    assert "torch, transformers, peft, accelerate, safetensors not installed" in memory.detail


def test_extras_are_those_of_the_project() -> None:
    names = {check.name for check in check_extras()}
    assert {"tspin itself", "extra 'train'", "extra 'dev'"} <= names


def test_importing_the_doctor_loads_no_torch() -> None:
    code = "import sys, tspin.doctor; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr
    assert doctor.__all__


def test_tasks_without_the_harness_are_told(
    tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = {"annotated": str(tmp_path / "a.jsonl"), "heldout": str(tmp_path / "a.jsonl")}
    config = run_config(tmp_path, tiny_model_dir, data=data, evaluate={"tasks": ["gsm8k"]})
    find = doctor.find_spec
    monkeypatch.setattr(doctor, "find_spec", lambda name: None if name == "lm_eval" else find(name))
    check = named(doctor_report(config), "evaluate.tasks")
    assert check.status == "fail"
    assert "tspin[eval]" in check.detail


NO_SYSTEM = (
    "{% for m in messages if m.role != 'system' %}<{{ m.role }}>{{ m.content }}{{ eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


def chat_model(folder: Path, base: Path, source: str | dict[str, str]) -> Path:
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = source
    shutil.copytree(base, folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_the_chat_template_is_tried_and_so_are_the_records(
    tmp_path: Path, tiny_model_dir: Path
) -> None:
    config = run_config(tmp_path, chat_model(tmp_path / "m", tiny_model_dir, NO_SYSTEM))
    check = named(doctor_report(config), "prompt.template")
    assert check.status == "ok"
    assert "system turn: it leaves out the system turn" in check.detail
    turns = [{"role": "system", "content": "S"}, {"role": "user", "content": "q"}]
    line = json.dumps({"id": "r-3", "messages": turns, "response": "a"})
    (tmp_path / "a.jsonl").write_text(line + "\n")
    check = named(doctor_report(config), "lengths in data.annotated")
    assert check.status == "fail"
    assert "record 'r-3'" in check.detail


def test_a_chat_template_that_cannot_be_used_fails(tmp_path: Path, tiny_model_dir: Path) -> None:
    several = chat_model(tmp_path / "m", tiny_model_dir, {"rag": NO_SYSTEM, "tool_use": NO_SYSTEM})
    check = named(doctor_report(run_config(tmp_path, several)), "prompt.template")
    assert check.status == "fail"
    assert "['rag', 'tool_use']" in check.detail
    assert str(several) in check.detail
    opening = NO_SYSTEM.replace("%}<assistant>", "%}<assistant><think>")
    thinking = chat_model(tmp_path / "t", tiny_model_dir, opening)

    config = run_config(tmp_path, thinking)
    (tmp_path / "a.jsonl").unlink()
    check = named(doctor_report(config), "prompt.template")
    assert check.status == "warn"
    assert "opens a thought" in check.detail
