import json
import subprocess
import sys
from pathlib import Path

import pytest

from tspin.config import RunConfig, load_config
from tspin.errors import InputError
from tspin.files import write_json
from tspin.runs.best import Best
from tspin.runs.folder import BASE, RunFolder
from tspin.runs.inputs import fetch_data


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    for name in ("a", "h"):
        (tmp_path / f"{name}.jsonl").write_text(f'{{"id":"1","prompt":"{name}","response":"r"}}\n')
    path = tmp_path / "run.yaml"
    path.write_text(
        f"run_dir: {tmp_path}/run\niterations: 2\nmodel: {{path: m}}\n"
        f"data: {{annotated: {tmp_path}/a.jsonl, heldout: {tmp_path}/h.jsonl}}\n"
        "gate: {metric: score, direction: max, margin: 0.1}\n"
    )
    return path


def open_run(path: Path, *overrides: str) -> RunFolder:
    config = load_config(path, overrides)
    folder = RunFolder(Path(config.run_dir))
    with folder.opened(config, fetch_data(config)):
        pass
    return folder


def test_a_changed_configuration_is_refused_with_what_changed(config_file: Path) -> None:
    folder = open_run(config_file)
    before = (folder.path / "config.json").read_bytes()
    with pytest.raises(InputError) as raised:
        open_run(config_file, "train.beta=0.3", "seed=5")
    assert "seed: 0 -> 5\n  train.beta: 0.1 -> 0.3" in str(raised.value)
    assert (folder.path / "config.json").read_bytes() == before


def test_changed_data_is_refused(config_file: Path) -> None:
    open_run(config_file)
    data = config_file.parent / "a.jsonl"
    data.write_text(data.read_text().replace('"r"', '"other"'))
    with pytest.raises(InputError, match=r"content of data.annotated: '\w+' -> "):
        open_run(config_file)


def test_more_iterations_and_another_machine_are_no_change(config_file: Path) -> None:
    open_run(config_file)
    folder = open_run(config_file, "iterations=4", "system.tokens_per_device=1")
    assert json.loads((folder.path / "config.json").read_bytes())["iterations"] == 4
    with pytest.raises(InputError, match="iterations: 4 -> 3"):
        open_run(config_file, "iterations=3")


def test_missing_data_leaves_no_folder(config_file: Path) -> None:
    with pytest.raises(InputError, match=r"data.heldout is 'nowhere.jsonl': no such file"):
        open_run(config_file, "data.heldout=nowhere.jsonl")
    assert not (config_file.parent / "run").exists()


def test_a_second_process_is_refused(config_file: Path) -> None:
    config = load_config(config_file)
    script = (
        "import sys; from pathlib import Path\n"
        "from tspin.config import load_config; from tspin.runs.folder import RunFolder\n"
        "from tspin.runs.inputs import fetch_data\n"
        "config = load_config(Path(sys.argv[1]))\n"
        "with RunFolder(Path(config.run_dir)).opened(config, fetch_data(config)): pass\n"
    )
    command = [sys.executable, "-c", script, str(config_file)]
    with RunFolder(Path(config.run_dir)).opened(config, fetch_data(config)):
        second = subprocess.run(command, capture_output=True, text=True)
    assert second.returncode != 0
    assert "another process is running in this folder" in second.stderr
    assert subprocess.run(command).returncode == 0


@pytest.fixture
def folder(config_file: Path) -> RunFolder:
    return open_run(config_file)


def play(config: RunConfig, folder: RunFolder, scores: list[float]) -> Best:
    for number, score in enumerate(scores, start=BASE):
        metrics = {"score": {"value": score, "low": 0, "high": 1, "n": 8}}
        write_json(folder.iteration(number).metrics, {"metrics": metrics})
    best = Best.first(config, folder)
    for iteration in range(len(scores) - 1):
        best = best.after(config, folder, iteration)
        if best.stopped:
            break
    best.write(config, folder)
    return best


def test_the_best_iteration_is_kept(config_file: Path, folder: RunFolder) -> None:
    best = play(load_config(config_file), folder, [0.1, 0.5, 0.45])
    assert best == Best(0, 0.5)
    assert json.loads(folder.best.read_bytes()) == {
        "iteration": 0, "model": "iter-0/model", "metric": "score", "value": 0.5, "stopped": None,
    }  # fmt: skip


def test_the_direction_decides(config_file: Path, folder: RunFolder) -> None:
    config = load_config(config_file, ["gate.direction=min"])
    assert play(config, folder, [0.5, 0.45, 0.4]) == Best(1, 0.4)


def test_the_gate_stops_a_run_that_falls_and_says_why(config_file: Path, folder: RunFolder) -> None:
    best = play(load_config(config_file), folder, [0.1, 0.5, 0.39, 0.9])
    assert best.iteration == 0
    assert best.stopped == (
        "iteration 1 has score 0.39, worse than 0.5 of iteration 0 by more than gate.margin 0.1"
    )


def test_without_a_margin_the_run_goes_on(config_file: Path, folder: RunFolder) -> None:
    config = load_config(config_file, ["gate.margin=null"])
    assert play(config, folder, [0.1, 0.5, 0.0, 0.9]) == Best(2, 0.9)


def test_the_initial_policy_may_stay_the_best(config_file: Path, folder: RunFolder) -> None:
    best = play(load_config(config_file), folder, [0.8, 0.75])
    assert best == Best(BASE, 0.8)
    assert json.loads(folder.best.read_bytes())["model"] is None


def test_an_unknown_metric_lists_those_there_are(config_file: Path, folder: RunFolder) -> None:
    config = load_config(config_file, ["gate.metric=nope"])
    with pytest.raises(InputError, match=r"gate.metric is 'nope'.* it holds: score"):
        play(config, folder, [0.1])


def test_a_run_begun_before_a_setting_existed_goes_on_with_its_default(config_file: Path) -> None:
    path = open_run(config_file).path / "config.json"
    old = json.loads(path.read_bytes())
    del old["generate"]["samples"]
    path.write_text(json.dumps(old))
    with pytest.raises(InputError, match=r"generate\.samples: 1 -> 2"):
        open_run(config_file, "generate.samples=2")
    open_run(config_file)
    assert json.loads(path.read_bytes())["generate"]["samples"] == 1
