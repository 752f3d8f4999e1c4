"""The command line as its users meet it: help, exit codes, one clear message."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests import warm

pytestmark = pytest.mark.integration


def tspin(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tspin", *arguments]
    return warm.run(command, cwd=cwd, capture_output=True, text=True)


def test_help_and_import_load_no_torch() -> None:
    script = (
        "import sys, tspin, tspin.config, tspin.records.records, tspin.cli\n"
        "sys.argv = ['tspin', '--help']\n"
        "try: tspin.cli.main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'pyarrow', 'plotly', 'scipy'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for command in ("run", "generate", "build-triplets", "train", "evaluate", "report", "doctor"):
        assert command in done.stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "--config", "nowhere.yaml"], "nowhere.yaml: no such file"),
        (["run"], "--config"),
        (["rum"], "rum"),
        (["report", "nowhere"], "nowhere"),
        (["data", "validate", "nowhere.jsonl"], "nowhere.jsonl: no such file"),
        (["data", "import", "nowhere", "--out", "x.jsonl"], "nowhere"),
        (
            ["generate", "--model", "nowhere", "--annotated", "a.jsonl", "--out", "r.jsonl"],
            "a.jsonl: no such file",
        ),
        (
            ["train", "--model", "m", "--triplets", "t.jsonl", "--out", "o", "--set", "train.b=1"],
            "--set train.b=1: unknown key 'train.b'",
        ),
    ],
)
def test_wrong_usage_is_one_message_and_exit_code_2(
    tmp_path: Path, arguments: list[str], expected: str
) -> None:
    done = tspin(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_import_validate_and_split(tmp_path: Path) -> None:
    rows = "".join(f'{{"question": "q {i}", "answer": "a {i}"}}\n' for i in range(40))
    (tmp_path / "rows.jsonl").write_text(rows + '{"question": "q", "answer": ""}\n')
    failed = tspin("data", "import", "rows.jsonl", "--out", "a.jsonl", cwd=tmp_path)
    assert failed.returncode == 2
    assert "rows.jsonl:41" in failed.stderr
    assert not (tmp_path / "a.jsonl").exists()

    options = ("--out", "a.jsonl", "--on-error", "skip")
    done = tspin("data", "import", "rows.jsonl", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "40 of 41 rows" in done.stdout
    assert tspin("data", "validate", "a.jsonl", cwd=tmp_path).returncode == 0
    sides = ("--train", "t.jsonl", "--heldout", "h.jsonl", "--share", "0.3")
    done = tspin("data", "split", "a.jsonl", *sides, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [(tmp_path / name).read_text().splitlines() for name in ("t.jsonl", "h.jsonl")]
    assert sorted(lines[0] + lines[1]) == sorted((tmp_path / "a.jsonl").read_text().splitlines())

    with (tmp_path / "a.jsonl").open("a") as file:
        file.write('{"id": "x", "prompt": "p", "response": 3}\n')
    invalid = tspin("data", "validate", "a.jsonl", cwd=tmp_path)
    assert invalid.returncode == 2
    assert "a.jsonl:41" in invalid.stdout


def test_init_makes_a_project_that_the_doctor_likes(tmp_path: Path) -> None:
    done = tspin("init", "p", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "p").iterdir()} == {
        "params.yaml", "dvc.yaml", "README.md", ".gitignore", "sample",
    }  # fmt: skip
    doctor = tspin("doctor", "--config", "params.yaml", cwd=tmp_path / "p")
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr
    again = tspin("init", "p", cwd=tmp_path)
    assert again.returncode == 2
    assert "not empty" in again.stderr
