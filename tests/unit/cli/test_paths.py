"""Paths as options of commands: the home folder, and names that shells and patterns take apart."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from tests.made_runs import make_run
from tests.registry_models import make_candidate
from tspin.cli.main import app


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return folder


def test_files_in_the_home_folder_are_read_and_written(home: Path) -> None:
    rows = [{"id": str(n), "prompt": f"p{n}", "response": "r"} for n in range(40)]
    (home / "all.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    for command in (
        ["data", "import", "~/all.jsonl", "--out=~/in.jsonl"],
        ["data", "split", "~/in.jsonl", "--train", "~/a.jsonl", "--heldout=~/sub/h.jsonl"],
        ["init", "~/project"],
        ["dvc", "sync", "--folder=~/project", "--check"],
    ):
        CliRunner().invoke(app, command, catch_exceptions=False)
    assert (home / "a.jsonl").is_file()
    assert (home / "sub/h.jsonl").is_file()
    assert (home / "project/dvc.yaml").is_file()
    assert not list(Path().iterdir())


PATHS = {"source", "file", "train", "heldout", "out", "model", "annotated", "synthetic", "proto"}
PATHS |= {"triplets", "checkpoints", "config", "run_dir", "folder", "candidate", "metrics"}
PATHS |= {"registry", "summary", "shards", "token_file", "ca_file"}


def _callbacks(command: Any) -> Iterator[Callable[..., Any]]:
    if command.callback is not None:
        yield command.callback
    for below in getattr(command, "commands", {}).values():
        yield from _callbacks(below)


def _parameters() -> Iterator[tuple[str, str, typer.models.ParameterInfo]]:
    for callback in _callbacks(typer.main.get_group(app)):
        signature = inspect.signature(callback, eval_str=True)
        for name, parameter in signature.parameters.items():
            for info in getattr(parameter.annotation, "__metadata__", ()):
                yield callback.__name__, name, info


def test_every_option_that_is_a_path_knows_the_home_folder() -> None:
    paths = [
        (command, name, info)
        for command, name, info in _parameters()
        if name in PATHS
        and (command, name) != ("submit_command", "shards")
        and (command, name) != ("compile_command", "shards")
    ]
    assert len(paths) > 40
    assert [(c, n) for c, n, info in paths if getattr(info, "parser", None) is None] == []


@pytest.mark.parametrize(
    "name",
    ["a b", "[x] {y} *?", 'it\'s "mine"', "$HOME & y; #1", "`touch y`", "\u00fc, -v =", "~"],
)
def test_any_name_of_a_folder_does(home: Path, name: str) -> None:
    folder = Path(name)
    folder.mkdir()
    rows = [{"id": str(n), "prompt": f"p{n}", "response": "r"} for n in range(40)]
    (folder / "all.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    make_run(folder / "run", iterations=1, planned=1)
    model, metrics = make_candidate(folder / "c", 1, 0.5)
    at = f"./{name}"
    registry = ["--registry", f"{at}/r"]
    for command in (
        ["data", "import", f"{at}/all.jsonl", "--out", f"{at}/in.jsonl"],
        [
            "data",
            "split",
            f"{at}/in.jsonl",
            "--train",
            f"{at}/a.jsonl",
            "--heldout",
            f"{at}/h.jsonl",
        ],
        ["report", f"{at}/run"],
        [
            "promote",
            "--candidate",
            f"./{model}",
            "--metrics",
            f"./{metrics}",
            "--registry",
            f"{at}/r",
        ],
        ["registry", "fetch", *registry, "--out", f"{at}/fetched"],
        ["registry", "fetch", *registry, "--out", f"{at}/fetched"],
        ["init", f"{at}/project"],
        ["dvc", "sync", "--folder", f"{at}/project", "--check"],
    ):
        CliRunner().invoke(app, command, catch_exceptions=False)
    for path in ("h.jsonl", "run/report.html", "fetched/model.safetensors", "project/dvc.yaml"):
        assert (folder / path).is_file(), path
    assert [path.name for path in Path().iterdir()] == [name]
    assert not list(home.iterdir())
