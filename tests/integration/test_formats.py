"""What earlier releases left on disk: read by this one; and what this one says of a newer one's.

`tests/formats/N.tar.xz` holds what the releases of format N wrote: a whole run, one that got
SIGKILL in its second training, and a registry (`tests/formats/make.py`). None is ever made again.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from whole_runs import started

from tests import warm

pytestmark = pytest.mark.integration

FORMATS = sorted((Path(__file__).parents[1] / "formats").glob("*.tar.xz"))


@pytest.fixture(params=FORMATS, ids=lambda path: f"format {path.name.partition('.')[0]}")
def earlier(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The project of an earlier release."""
    with tarfile.open(request.param) as archive:
        # Python has this filter from 3.11.4 on; Debian 12 has an earlier one.
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        archive.extractall(tmp_path)  # noqa: S202  # made by us
    return tmp_path


def tspin(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tspin", *arguments]
    return warm.run(command, cwd=folder, capture_output=True, text=True)


def files(folder: Path) -> dict[str, bytes]:
    """Of a run, without what is written anew whenever the command is given."""
    anew = {"config.json", "report.html", ".lock"}
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in anew
    }


def test_there_is_an_archive_of_every_format() -> None:
    assert [path.name for path in FORMATS] == ["1.tar.xz"]


def test_a_finished_run_is_finished(earlier: Path) -> None:
    before = files(earlier / "whole")
    done = tspin(earlier, "run", "--config", "run.yaml")
    assert done.returncode == 0, done.stderr
    assert files(earlier / "whole") == before


def test_a_killed_run_goes_on_where_it_was(earlier: Path) -> None:
    before = files(earlier / "begun")
    options = ("--set", "run_dir=begun", "--set", "train.epochs=40")
    process = started(earlier, "run", "--config", "run.yaml", *options)
    _, err = process.communicate()
    assert process.returncode == 0, err
    assert "training continues after step" in err
    after = files(earlier / "begun")
    kept = {name for name in before if name.startswith(("iter-0/", "base/", "proto"))}
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert "iter-1/metrics.json" in after


def test_a_report_is_made_of_an_earlier_run(earlier: Path) -> None:
    done = tspin(earlier, "report", "whole")
    assert done.returncode == 0, done.stderr
    assert (earlier / "whole/report.html").is_file()


def test_a_model_of_an_earlier_run_is_exported(earlier: Path) -> None:
    done = tspin(earlier, "export", "whole", "--out", "out")
    assert done.returncode == 0, done.stderr
    assert (earlier / "out/model.safetensors").is_file()


def test_a_registry_goes_on(earlier: Path) -> None:
    history = tspin(earlier, "registry", "list", "--registry", "registry", "--json").stdout
    kinds = [json.loads(line)["kind"] for line in history.splitlines()]
    assert kinds == ["promote", "promote", "rollback"]
    verified = tspin(earlier, "registry", "verify", "--registry", "registry")
    assert verified.returncode == 0, verified.stderr
    step = "whole/iter-1"
    gate = ["--registry", "registry", "--min-gain", "-100", "--by-value"]
    candidate = ["--candidate", f"{step}/model", "--metrics", f"{step}/metrics.json"]
    done = tspin(earlier, "promote", *candidate, *gate)
    assert done.returncode == 0, done.stderr
    assert "champion 4" in done.stdout


def test_the_configuration_of_a_run_begins_another(earlier: Path) -> None:
    done = tspin(earlier, "run", "--config", "whole/config.json")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("whole/config.json", ["run", "--config", "run.yaml"]),
        ("whole/config.json", ["run", "--config", "whole/config.json"]),
        ("whole/config.json", ["report", "whole"]),
        ("whole/iter-1/metrics.json.manifest.json", ["report", "whole"]),
        ("whole/iter-1/model.manifest.json", ["run", "--config", "run.yaml"]),
        ("whole/iter-1/model.manifest.json", ["export", "whole", "--out", "out"]),
    ],
)
def test_a_newer_format_is_refused_with_what_reads_it(
    earlier: Path, name: str, command: list[str]
) -> None:
    path = earlier / name
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"format": 7}))
    before = files(earlier)
    done = tspin(earlier, *command)
    assert done.returncode == 2
    assert f"{Path(name).name}" in done.stderr
    assert "has format 7; this tspin" in done.stderr
    assert "reads up to 1, update it" in done.stderr
    assert files(earlier) == before


def test_a_newer_checkpoint_is_no_torn_one(earlier: Path) -> None:
    [marker] = (earlier / "begun").rglob("checkpoint-*/complete.json")
    marker.write_text(json.dumps(json.loads(marker.read_bytes()) | {"format": 7}))
    before = files(earlier / "begun")
    options = ("--set", "run_dir=begun", "--set", "train.epochs=40")
    done = tspin(earlier, "run", "--config", "run.yaml", *options)
    assert done.returncode == 2
    assert "complete.json: has format 7; this tspin" in done.stderr
    assert files(earlier / "begun") == before


def test_a_setting_of_a_newer_release_is_named(earlier: Path) -> None:
    path = earlier / "whole/config.json"
    values = json.loads(path.read_bytes())
    values["train"]["warp"] = 9
    path.write_text(json.dumps(values))
    done = tspin(earlier, "report", "whole")
    assert done.returncode == 2
    assert "does not know: train.warp; it was written by a newer one" in done.stderr
