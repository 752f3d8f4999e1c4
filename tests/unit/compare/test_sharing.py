"""What one run of a comparison takes over from another."""

from __future__ import annotations

import json
from pathlib import Path

from tspin.compare.arms import Arm
from tspin.compare.folders import ComparisonFolder, share_outputs
from tspin.records.manifest import Manifest, manifest_path, read_manifest, write_manifest


def made_by(folder: ComparisonFolder, arm: Arm) -> None:
    run = folder.run(arm, 0)
    for path in (run.proto, run.heldout_proto, run.iteration(-1).metrics):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"of {arm.name}")
        write_manifest(path, Manifest(kind="responses", seed=0))
    seconds = {"proto": 1.0, "heldout_proto": 2.0, "base": 3.0, "train": 9.0}
    (run.path / "seconds.json").write_text(json.dumps(seconds))


def taken(folder: ComparisonFolder, arm: Arm) -> dict[str, str]:
    run = folder.run(arm, 0)
    paths = {"proto": run.proto, "heldout_proto": run.heldout_proto}
    paths["base"] = run.iteration(-1).metrics
    return {name: path.read_text() for name, path in paths.items() if path.exists()}


def test_each_method_takes_what_it_would_make_alike(tmp_path: Path) -> None:
    folder, first = ComparisonFolder(tmp_path), Arm.parse("tspin@0.5")
    made_by(folder, first)
    expected = {
        "spin@0.5": {"proto", "heldout_proto", "base"},
        "spin": {"heldout_proto", "base"},  # y0 of another share of the records
        "sft@0.5": {"base"},
    }
    for name, files in expected.items():
        arm = Arm.parse(name)
        share_outputs(folder, arm, [first], 0)
        assert taken(folder, arm) == dict.fromkeys(files, "of tspin@0.5")
        assert set(folder.clock(arm, 0).seconds) == files
        metrics = folder.run(arm, 0).iteration(-1).metrics
        assert read_manifest(metrics) is not None


def test_what_a_run_has_made_itself_stays(tmp_path: Path) -> None:
    folder = ComparisonFolder(tmp_path)
    first, second = Arm.parse("tspin"), Arm.parse("spin")
    made_by(folder, first)
    made_by(folder, second)
    manifest_path(folder.run(second, 0).proto).unlink()  # As a kill between the two leaves it.
    share_outputs(folder, second, [first], 0)
    assert taken(folder, second)["base"] == "of spin"
    assert taken(folder, second)["proto"] == "of spin"
