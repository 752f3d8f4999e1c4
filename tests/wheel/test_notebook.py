"""examples/quickstart.ipynb, cell by cell, in an environment as its first lines ask for."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import venv
from pathlib import Path
from typing import Any

import pytest
from test_wheel import ROOT, WHEEL

pytestmark = pytest.mark.wheel

NOTEBOOK = ROOT / "examples/quickstart.ipynb"
PATIENCE = ("--startup_timeout=1200", "--timeout=1800")
"""Seconds for the kernel and for each cell, however busy the machine is."""
RUNNER = ("nbclient==0.11.0", "nbformat==5.11.1", "ipykernel==7.4.0")


def cells() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(NOTEBOOK.read_text())["cells"]
    return found


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of an environment with the wheel, its extras, and a kernel."""
    folder = tmp_path_factory.mktemp("notebook")
    venv.create(folder, with_pip=True)
    [asked] = re.findall(r"pip install 'tspin(\[.+?\])' notebook", "".join(cells()[0]["source"]))
    command = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet"]
    command += ["--disable-pip-version-check", "--constraint", str(ROOT / "constraints.txt")]
    if index := os.environ.get("TORCH_INDEX"):
        command += ["--extra-index-url", index]
    subprocess.run([*command, f"{WHEEL}{asked}", *RUNNER], check=True, cwd=folder)
    return folder / "bin"


@pytest.fixture(scope="module")
def outputs(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What each cell of code prints or shows, as text."""
    folder = tmp_path_factory.mktemp("project")
    # Its kernel works in the notebook's own folder, and leaves a project there.
    notebook, executed = shutil.copy(NOTEBOOK, folder), folder / "executed.ipynb"
    hidden = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    clean = {name: value for name, value in os.environ.items() if name not in hidden}
    subprocess.run(
        [environment / "jupyter-execute", notebook, *PATIENCE, f"--output={executed}"],
        cwd=folder,
        env=clean | {"PATH": f"{environment}{os.pathsep}{os.environ['PATH']}"},
        check=True,
    )
    shown = [cell for cell in json.loads(executed.read_text())["cells"] if "outputs" in cell]
    return ["".join(map(_text, cell["outputs"])) for cell in shown]


def _text(output: dict[str, Any]) -> str:
    lines = output.get("text") or output["data"].get("text/html") or output["data"]["text/plain"]
    return "".join(lines)


def test_it_is_kept_as_it_is_before_it_runs() -> None:
    code = [cell for cell in cells() if cell["cell_type"] == "code"]
    assert len(code) >= 8
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)


def test_its_links_lead_somewhere() -> None:
    text = "".join("".join(cell["source"]) for cell in cells())
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert links
    assert all((NOTEBOOK.parent / link).is_file() for link in links)


def test_the_policy_learns_and_the_pipeline_is_compiled(outputs: list[str]) -> None:
    exact = [float(value) for text in outputs for value in re.findall(r"exact (\d\.\d\d) \(", text)]
    assert len(exact) == 3
    assert exact[-1] > exact[0] + 0.5
    told = "".join(outputs)
    assert "1280" in told.replace(",", "")  # of 1,281 rows, one of them twice
    assert "pipeline 'run' for profile 'cpu'" in told
    assert 'src="runs/first/report.html"' in told


def test_progress_is_plain_where_there_is_no_terminal(outputs: list[str]) -> None:
    moved = re.compile(r"\x1b\[\d*[ABCDGHJK]")  # Colours are shown; the cursor stays.
    assert not any(moved.search(text) for text in outputs)
