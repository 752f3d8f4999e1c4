"""Every command that has an output: what stands in its place, and what becomes of that.

All commands run in one process where torch and transformers cannot be imported, so a refusal comes
before any work. A step that needs them and was not refused says that it wanted to import them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.made_runs import make_run
from tests.registry_models import METRIC, make_candidate
from tspin.data import source_hash
from tspin.outputs import check_output, made_from
from tspin.records.manifest import Manifest, content_hash, manifest_path, write_manifest
from tspin.registry import promote
from tspin_pipelines.profiles.profile import PROFILES

ROOT = Path(__file__).parents[3]
SCRIPT = """
import json, os, sys
from typer.testing import CliRunner
from tspin.cli.main import app
outcomes = {}
for name, (folder, command) in json.load(open(sys.argv[1])).items():
    os.chdir(folder)
    result = CliRunner().invoke(app, command)
    error = result.exception
    code = getattr(error, "exit_code", None if error and type(error) is not SystemExit else 0)
    outcomes[name] = (code, repr(error) if code is None else str(error))
json.dump(outcomes, open(sys.argv[2], "w"))
"""
NEEDS_TORCH = "torch or transformers was imported"


@dataclass(frozen=True)
class Command:
    """One with an output."""

    arguments: str
    """With OUT in the place of the output."""
    source: str
    """An input that the output might be pointed at."""
    folder: bool = False
    own: Callable[[Path, Path], None] | None = None
    """Writes an output of ours at a path, made from an input."""
    option: bool = True
    """Whether there is --overwrite."""
    out: str = "out"


def _made(
    kind: str, role: str, *, imported: bool = False, **more: str | int | None
) -> Callable[[Path, Path], None]:
    """An output with a manifest; `role` is the input that makes it the one or the other."""

    def own(out: Path, source: Path) -> None:
        if kind == "model":
            out.mkdir()
            (out / "config.json").write_text('{"kept": 1}')
        else:
            out.write_text("kept\n")
        named = {"model": content_hash(Path("model")), "iteration": 0} | more
        hashed = source_hash if imported else content_hash
        write_manifest(out, Manifest(kind=kind, inputs={role: hashed(source)}, **named))

    return own


STEP = "--annotated annotated.jsonl --out OUT"
ROWS = {"model": None, "iteration": None}
COMMANDS = {
    "import": Command("data import annotated.jsonl --out OUT", "annotated.jsonl",
        own=_made("annotated", "source", imported=True, **ROWS)),
    "split": Command("data split many.jsonl --train OUT --heldout held.jsonl", "many.jsonl",
        own=_made("annotated", "source", **ROWS)),
    "split, held-out": Command("data split many.jsonl --train kept.jsonl --heldout OUT",
        "many.jsonl"),
    "generate": Command(f"generate --model model {STEP}", "annotated.jsonl",
        own=_made("responses", "annotated")),
    "merge-responses": Command(f"merge-responses responses.jsonl {STEP}", "responses.jsonl",
        own=_made("responses", "annotated")),
    "build-triplets": Command(
        f"build-triplets --synthetic responses.jsonl --proto responses.jsonl {STEP}",
        "responses.jsonl", own=_made("triplets", "annotated", **ROWS)),
    "train": Command("train --model model --triplets triplets.jsonl --out OUT", "model",
        folder=True, own=_made("model", "triplets")),
    "train, checkpoints": Command(
        "train --model model --triplets triplets.jsonl --out new --checkpoints OUT", "model",
        folder=True, option=False),
    "evaluate": Command(f"evaluate --model model {STEP}", "annotated.jsonl",
        own=_made("metrics", "annotated")),
    "merge-evaluations": Command(f"merge-evaluations responses.jsonl {STEP}", "responses.jsonl",
        own=_made("metrics", "annotated")),
    "run": Command("run --config run.yaml --set run_dir=OUT", "model", folder=True),
    "compare": Command("compare --config run.yaml --out OUT", "model", folder=True),
    "report": Command("report runs/a", "", out="runs/a/report.html"),
    "export": Command("export runs/a --out OUT", "runs/a", folder=True),
    "init": Command("init OUT", "", folder=True),
    "fetch": Command("registry fetch --registry registry --out OUT", "registry", folder=True),
    "promote": Command(
        f"promote --candidate c/model --metrics c/metrics.json --metric {METRIC} --registry OUT",
        "c/model", folder=True, option=False),
    "retrain": Command("retrain --registry registry --summary OUT", "params.yaml", option=False),
    "profile": Command("pipeline profiles copy own.yaml OUT", "own.yaml", out="kept.yaml"),
    "compile": Command("pipeline compile --config run.yaml --profile cpu --out OUT", "run.yaml"),
    "components": Command("pipeline components --profile cpu --out parts", "",
        out="parts/train.yaml", option=False),
}  # fmt: skip


def _inputs(folder: Path) -> None:
    """All that the commands read, in a folder of its own."""
    record = {"id": "1", "prompt": "p"}
    response = {"finish_reason": "stop", "prompt_tokens": 1, "response_tokens": 1, "seed": 0}
    rows = {
        "annotated": [{**record, "response": "r"}],
        "other": [{**record, "response": "another"}],
        "many": [{"id": str(n), "prompt": f"p{n}", "response": "r"} for n in range(40)],
        "responses": [{"id": "1", "response": "s", **response}],
        "triplets": [{**record, "annotated": "a", "synthetic": "b", "proto_synthetic": "c"}],
    }
    for name, lines in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    (folder / "model").mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / "model" / name).write_text("{}")
    write_manifest(
        folder / "responses.jsonl",
        Manifest(
            kind="responses",
            inputs={"annotated": content_hash(folder / "annotated.jsonl")},
            model=content_hash(folder / "model"),
            iteration=0,
        ),
    )
    values = {"run_dir": "run", "iterations": 1, "model": {"path": "model"}}
    data = {"data": {"annotated": "annotated.jsonl", "heldout": "other.jsonl"}}
    (folder / "run.yaml").write_text(yaml.safe_dump(values | data))
    shutil.copyfile(folder / "run.yaml", folder / "params.yaml")
    shutil.copyfile(PROFILES / "cpu.yaml", folder / "own.yaml")
    make_run(folder / "runs/a", iterations=1, planned=1)
    model, metrics = make_candidate(folder / "c", 1, 0.5)
    promote(model, metrics=metrics, registry=str(folder / "registry"), metric=METRIC,
            direction="max", by="someone")  # fmt: skip


def _foreign_folder(out: Path) -> None:
    (out / "below").mkdir(parents=True)
    (out / "notes.txt").write_text("mine")
    (out / "below/notes.txt").write_text("mine too")


def _source(command: Command) -> Path:
    words = command.arguments.split()
    named = next((w for w in words if w in ("many.jsonl", "triplets.jsonl")), "annotated.jsonl")
    return Path(named)


def _change(out: Path, command: Command) -> None:
    if command.own is not None:
        command.own(out, _source(command))
        (out / "config.json" if out.is_dir() else out).write_text("changed by hand")


PLACES: dict[str, Callable[[Path, Command], None]] = {
    "nothing": lambda out, command: None,
    "file": lambda out, command: (out.write_text("mine"), None)[1],
    "empty folder": lambda out, command: out.mkdir(),
    "foreign folder": lambda out, command: _foreign_folder(out),
    "foreign folder, --overwrite": lambda out, command: _foreign_folder(out),
    "file, --overwrite": lambda out, command: (out.write_text("mine"), None)[1],
    "link to an input": lambda out, command: out.symlink_to(Path(command.source).absolute()),
    "link to nothing": lambda out, command: out.symlink_to("absent"),
    "an input": lambda out, command: None,
    "above an input": lambda out, command: None,
    "inside an input": lambda out, command: None,
    "home": lambda out, command: None,
    "root": lambda out, command: None,
    "below a file": lambda out, command: None,
    "own": lambda out, command: command.own and command.own(out, _source(command)),
    "own of another input": lambda out, command: (
        command.own and command.own(out, Path("other.jsonl"))
    ),
    "own, changed since": _change,
}


def _out(command: Command, place: str, folder: Path) -> str:
    special = {
        "an input": command.source,
        "above an input": str(folder),
        "inside an input": f"{command.source}/new",
        "home": str(folder.parent / "home"),
        "root": "/",
        "below a file": "run.yaml/new",
    }
    return special.get(place, command.out)


def _applies(command: Command, place: str) -> bool:
    if "OUT" not in command.arguments and place in (
        "an input", "above an input", "inside an input", "home", "root", "below a file"
    ):  # fmt: skip
        return False
    if not command.source and place in ("link to an input", "an input", "inside an input"):
        return False
    if "--overwrite" in place and not command.option:
        return False
    if place.startswith("own") and command.own is None:
        return False
    # Data for a registry may stand in it, and a run may stand where its data does.
    return not (place == "above an input" and command.source in ("", "params.yaml"))


CASES = {
    f"{name}: {place}": (name, place)
    for name, command in COMMANDS.items()
    for place in PLACES
    if _applies(command, place)
}


def _content(folder: Path) -> dict[str, str]:
    """Of all that stands below a folder: links, folders, and files by what is in them."""
    found = {}
    for path in sorted(folder.rglob("*")):
        kind = "folder" if path.is_dir() else "file"
        value = str(path.readlink()) if path.is_symlink() else kind
        if path.is_file() and not path.is_symlink():
            value = content_hash(path)
        found[path.relative_to(folder).as_posix()] = value
    return found


@dataclass(frozen=True)
class Outcome:
    """Of one command in one place."""

    code: int | None
    """None where it wanted to import torch."""
    message: str
    before: dict[str, str]
    folder: Path

    @property
    def after(self) -> dict[str, str]:
        return _content(self.folder)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """Of every case, from one process."""
    top = tmp_path_factory.mktemp("places")
    (top / "pattern").mkdir()
    _inputs(top / "pattern")
    (top / "home").mkdir()
    for name in ("torch", "transformers"):
        (top / "refusing" / name).mkdir(parents=True)
        text = f"raise ImportError({NEEDS_TORCH!r})"
        (top / "refusing" / name / "__init__.py").write_text(text)
    commands, before = {}, {}
    with pytest.MonkeyPatch.context() as patched:
        for number, (case, (name, place)) in enumerate(CASES.items()):
            folder, command = top / f"{number}", COMMANDS[name]
            shutil.copytree(top / "pattern", folder)
            patched.chdir(folder)
            Path(command.out).parent.mkdir(exist_ok=True)
            PLACES[place](Path(command.out), command)
            words = command.arguments.replace("OUT", _out(command, place, folder)).split()
            words += ["--overwrite"] if "--overwrite" in place else []
            commands[case] = (str(folder), words)
            before[case] = _content(folder)
    (top / "commands.json").write_text(json.dumps(commands))
    path = os.pathsep.join([str(top / "refusing"), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, top / "commands.json", top / "outcomes.json"],
        env=os.environ | {"PYTHONPATH": path, "HOME": str(top / "home")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads((top / "outcomes.json").read_bytes())
    return {case: Outcome(*told[case], before[case], top / f"{n}") for n, case in enumerate(CASES)}


def _named(*places: str) -> list[str]:
    return [case for case, (_, place) in CASES.items() if place in places]


@pytest.mark.parametrize(
    "case",
    _named(
        "file",
        "foreign folder",
        "link to an input",
        "link to nothing",
        "an input",
        "above an input",
        "inside an input",
        "home",
        "root",
        "below a file",
        "own of another input",
        "own, changed since",
    ),
)
def test_what_is_not_the_same_output_is_refused_and_stays(
    outcomes: dict[str, Outcome], case: str
) -> None:
    outcome = outcomes[case]
    assert outcome.code == 2, outcome.message
    assert outcome.after == outcome.before


@pytest.mark.parametrize("case", _named("empty folder"))
def test_an_empty_folder_is_one_for_a_folder(outcomes: dict[str, Outcome], case: str) -> None:
    outcome, command = outcomes[case], COMMANDS[CASES[case][0]]
    if command.folder:
        assert outcome.code == 0 or NEEDS_TORCH in outcome.message, outcome.message
    else:
        assert (outcome.code, outcome.after) == (2, outcome.before), outcome.message


@pytest.mark.parametrize("case", _named("nothing", "own"))
def test_a_new_output_and_the_same_one_are_not_refused(
    outcomes: dict[str, Outcome], case: str
) -> None:
    outcome = outcomes[case]
    allowed = outcome.code == 0 or NEEDS_TORCH in outcome.message
    # What these do then is beyond this test: there are neither git nor DVC here.
    assert allowed or CASES[case][0] == "retrain", outcome.message


@pytest.mark.parametrize("case", _named("foreign folder, --overwrite", "file, --overwrite"))
def test_overwrite_moves_aside(outcomes: dict[str, Outcome], case: str) -> None:
    outcome, command = outcomes[case], COMMANDS[CASES[case][0]]
    assert outcome.code == 0 or NEEDS_TORCH in outcome.message, outcome.message
    aside = [name for name in outcome.after if name.startswith(f"{command.out}.replaced-")]
    moved = {name: value for name, value in outcome.before.items() if name.startswith(command.out)}
    moved.pop(f"{command.out}.manifest.json", None)
    kept = {command.out + name[len(aside[0]) :]: outcome.after[name] for name in aside}
    assert kept == moved


def test_a_manifest_goes_with_what_is_moved(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text("kept\n")
    write_manifest(out, Manifest(kind="responses", inputs={"annotated": "a"}))
    check_output(out, made_from("responses", annotated="b"), overwrite=True)
    (aside,) = tmp_path.glob("out.jsonl.replaced-*Z")
    assert aside.read_text() == "kept\n"
    assert manifest_path(aside).is_file()
    assert not manifest_path(out).exists()
