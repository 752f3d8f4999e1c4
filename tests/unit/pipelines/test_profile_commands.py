"""Profiles as commands, and what every command says where Kubeflow's packages are missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tspin.errors import InputError
from tspin_pipelines.commands import app
from tspin_pipelines.profiles.profile import PROFILES, profile_names

ROOT = Path(__file__).parents[3]


def _tspin_pipeline(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments)
    if result.exception is not None:
        raise result.exception
    return result.stdout


def test_the_shipped_profiles_are_listed_with_what_they_are_for() -> None:
    lines = _tspin_pipeline("profiles").splitlines()
    assert [line.split()[0] for line in lines] == profile_names()
    assert "CPU only, for the demo" in lines[1]


def test_a_profile_is_shown_by_name_and_by_path(tmp_path: Path) -> None:
    text = (PROFILES / "onprem.yaml").read_text()
    assert _tspin_pipeline("profiles", "show", "onprem") == text
    own = tmp_path / "own.yaml"
    own.write_text(text.replace("queue: tspin", "queue: team"))
    assert "queue: team" in _tspin_pipeline("profiles", "show", str(own))


def test_a_wrong_profile_is_neither_shown_nor_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.yaml").write_text("overlays: eks")
    for command in ("show", "copy"):
        with pytest.raises(InputError, match="did you mean 'overlay'"):
            _tspin_pipeline("profiles", command, "own.yaml")
        with pytest.raises(InputError, match="did you mean 'onprem'"):
            _tspin_pipeline("profiles", command, "on-prem")
    assert [path.name for path in tmp_path.iterdir()] == ["own.yaml"]


def test_a_copy_has_the_profiles_name_and_is_found_by_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _tspin_pipeline("profiles", "copy", "cpu")
    assert Path("cpu.yaml").read_bytes() == (PROFILES / "cpu.yaml").read_bytes()
    _tspin_pipeline("profiles", "copy", "cpu.yaml", "other.yml")
    with pytest.raises(InputError, match=r"profile ends with \.yaml"):
        _tspin_pipeline("profiles", "copy", "cpu", "other")


WITHOUT_KFP = """
import sys
sys.modules["kfp"] = None  # What the import system takes for "not installed".
sys.argv = ["tspin", *sys.argv[1:]]
from tspin.cli import main
main()
"""


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("--help", 0),
        ("pipeline profiles", 0),
        ("pipeline compile --config configs/demo.yaml --profile cpu --out {out}", 2),
        ("pipeline submit --config configs/demo.yaml --profile cpu", 2),
        ("pipeline components --profile cpu --out {out}", 2),
    ],
)
def test_without_kfp_a_command_works_or_says_what_to_install(
    command: str, code: int, tmp_path: Path
) -> None:
    arguments = command.format(out=tmp_path / "out").split()
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_KFP, *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == code, done.stderr
    if code:
        assert len(done.stderr.splitlines()) == 1
        assert "'kfp' is missing" in done.stderr
        assert "pip install 'tspin[pipelines]'" in done.stderr
    assert not any(tmp_path.iterdir())
