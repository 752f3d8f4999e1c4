"""What tasks need is fetched once, from a Hub on this machine, and found without any network."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from tests.hub_datasets import DatasetHub, dataset_hub
from tspin.cli.main import app
from tspin.config import RunConfig
from tspin.demo.demo import BASE
from tspin.errors import InputError
from tspin.evaluate.step import evaluate
from tspin.harness.fetching import fetch_tasks as fetch
from tspin.harness.loading import FETCHED, load_task
from tspin.harness.requests import task_requests
from tspin.records.records import AnnotatedRecord, Message, write_records
from tspin_components.fetch_tasks import fetch_tasks

pytestmark = pytest.mark.integration

datasets = pytest.importorskip("datasets", reason="lm-eval is not installed")

NEW, OLD = "a" * 40, "b" * 40
TRAIN, TEST = (f"data/{split}-00000-of-00001.parquet" for split in ("train", "test"))
SCORED = """
def scored(doc, results):
    with open("{path}") as metric:
        return {{"exact_match": float(metric.read())}}
"""
TASK = {
    "task": "sums",
    "dataset_path": "acme/sums",
    "test_split": "test",
    "fewshot_split": "train",
    "num_fewshot": 2,
    "output_type": "generate_until",
    "doc_to_text": "{{question}} ",
    "doc_to_target": "{{answer}}",
    "generation_kwargs": {"until": ["\n"], "do_sample": False, "max_gen_toks": 4},
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}


def parquet(numbers: range) -> bytes:
    file = io.BytesIO()
    asked = [f"{number} + 1 =" for number in numbers]
    answers = [str(number + 1) for number in numbers]
    pq.write_table(pa.table({"question": asked, "answer": answers}), file)
    return file.getvalue()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DatasetHub]:
    from huggingface_hub import HfFileSystem

    cache = tmp_path / "cache"
    new = {TRAIN: parquet(range(100, 104)), TEST: parquet(range(5))}
    old = {TRAIN: parquet(range(100, 104)), TEST: parquet(range(3))}
    with dataset_hub("acme/sums", {NEW: new, OLD: old}) as server:
        # The libraries read the environment once, as they are loaded.
        template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache / "hub"))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr("datasets.config.HF_ENDPOINT", server.url)
        monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", cache / "datasets")
        HfFileSystem.clear_instance_cache()
        yield server
        HfFileSystem.clear_instance_cache()


def go_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)


def configuration(tmp_path: Path, **task: Any) -> RunConfig:
    """A run with the task in a folder of its own, and one held-out record."""
    folder = tmp_path / "tasks"
    folder.mkdir()
    text = yaml.safe_dump(TASK | task).replace("FUNCTION", "!function")
    (folder / "sums.yaml").write_text(text)
    record = AnnotatedRecord(
        id="h0", messages=[Message(role="user", content="1 + 1 =")], response="2"
    )
    write_records(tmp_path / "heldout.jsonl", [record])
    return RunConfig.model_validate(
        {
            "run_dir": "unused",
            "model": {"path": str(BASE)},
            "data": {"annotated": "unused", "heldout": str(tmp_path / "heldout.jsonl")},
            "prompt": {"template": "instruction", "max_length": 256},
            "generate": {"max_new_tokens": 4},
            "evaluate": {
                "sampled": False,
                "tasks": ["sums"],
                "harness": {"task_folder": str(folder)},
            },
            "system": {"device": "cpu", "threads": 1},
        }
    )


def questions(config: RunConfig) -> list[str]:
    """What a pod asks that loads the task."""
    (request,) = task_requests(config.evaluate)
    loaded = load_task(request, Path(config.evaluate.harness.task_folder or "")).loaded
    return [doc["question"] for doc in loaded["tasks"]["sums"].eval_docs]


def measured(config: RunConfig, tmp_path: Path) -> dict[str, Any]:
    return evaluate(
        config,
        model=config.model.path,
        annotated=tmp_path / "heldout.jsonl",
        out=tmp_path / "out/metrics.json",
        proto=None,
        iteration=0,
    )


def test_the_component_fetches_what_an_evaluation_finds_without_network(
    hub: DatasetHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Questions and few-shot examples of a task of one's own, whose data are on the Hub."""
    config = configuration(tmp_path)
    with monkeypatch.context() as without_network:
        go_offline(without_network)
        with pytest.raises(InputError, match=r"'sums' needs acme/sums .*`tspin fetch-tasks sums`"):
            measured(config, tmp_path)
    fetch_tasks.python_func(config.model_dump_json())
    splits = [line for line in hub.asked if line.startswith("GET") and "parquet" in line]
    assert len(splits) == 2, hub.asked
    hub.asked.clear()
    go_offline(monkeypatch)
    metrics = measured(config, tmp_path)
    task = metrics["lm_eval"]["tasks"]["sums"]
    assert (task["n"], task["num_fewshot"]) == (5, 2)
    assert hub.asked == []


def test_where_a_pipeline_has_fetched_nobody_asks_the_hub_again(
    hub: DatasetHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configuration(tmp_path)
    fetch(config.evaluate)
    hub.asked.clear()
    monkeypatch.setenv(FETCHED, "true")
    verbosity = datasets.logging.get_verbosity()
    assert measured(config, tmp_path)["lm_eval"]["tasks"]["sums"]["n"] == 5
    assert hub.asked == []
    assert datasets.logging.get_verbosity() == verbosity
    fetch(config.evaluate)  # The task that fetches looks for a newer commit all the same.
    assert hub.asked


@pytest.mark.parametrize("options", [{}, {"data_files": {"train": TRAIN, "test": TEST}}])
def test_what_is_not_found_in_the_cache_comes_from_the_hub_as_ever(
    hub: DatasetHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    """Nothing was fetched; or `datasets` does not find it again, chosen by names of files."""
    config = configuration(tmp_path, dataset_kwargs=options)
    if options:
        fetch(config.evaluate)
    hub.asked.clear()
    monkeypatch.setenv(FETCHED, "true")
    assert questions(config) == [f"{number} + 1 =" for number in range(5)]
    assert hub.asked


def test_a_revision_is_not_taken_for_another_one_in_the_cache(
    hub: DatasetHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`datasets` takes the newest that it finds there."""
    pinned = configuration(tmp_path, dataset_kwargs={"revision": OLD})
    fetch(pinned.evaluate)
    (tmp_path / "newest").mkdir()
    newest = configuration(tmp_path / "newest")
    fetch(newest.evaluate)
    monkeypatch.setenv(FETCHED, "true")
    assert len(questions(newest)) == 5
    assert len(questions(pinned)) == 3


def test_what_scoring_loads_is_tried_beforehand(hub: DatasetHub, tmp_path: Path) -> None:
    """A metric that is loaded with the first answer."""
    config = configuration(tmp_path, process_results="FUNCTION utils.scored")
    (tmp_path / "tasks/utils.py").write_text(SCORED.format(path=tmp_path / "metric"))
    with pytest.raises(InputError, match=r"'sums' scores answers with .* nor can be had.*metric"):
        fetch(config.evaluate)
    (tmp_path / "metric").write_text("0.5")
    assert fetch(config.evaluate) == {"sums": 5}


def test_a_metric_that_stumbles_over_the_answer_refuses_nothing(
    hub: DatasetHub, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = configuration(tmp_path, process_results="FUNCTION utils.scored")
    (tmp_path / "tasks/utils.py").write_text(
        "def scored(doc, results):\n    return int(results[0])"
    )
    assert fetch(config.evaluate) == {"sums": 5}
    assert "sums: its scoring was not tried: ValueError" in caplog.text


def test_a_metric_of_the_hub_that_cannot_be_had_is_named(
    hub: DatasetHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The harness only logs it, and fails when it scores the first answer."""
    monkeypatch.setattr("evaluate.config.HF_EVALUATE_OFFLINE", True)
    metric = {"metric": "acme_metric", "aggregation": "mean", "higher_is_better": True}
    config = configuration(tmp_path, metric_list=[metric])
    with pytest.raises(InputError, match="'sums' needs the metric 'acme_metric' of the Hugging"):
        fetch(config.evaluate)


def test_data_of_nltk_that_cannot_be_had_are_an_error(
    hub: DatasetHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As IFEval asks for them: nltk prints what went wrong and goes on."""
    import nltk

    address = "http://127.0.0.1:9/index.xml"
    monkeypatch.setattr("nltk.downloader._downloader", nltk.downloader.Downloader(address))
    monkeypatch.setattr(nltk, "download", nltk.downloader._downloader.download)
    before = nltk.download
    config = configuration(tmp_path, process_docs="FUNCTION utils.as_they_are")
    utils = (
        "import nltk\n\nnltk.download('punkt_tab')\n\n\ndef as_they_are(docs):\n    return docs\n"
    )
    (tmp_path / "tasks/utils.py").write_text(utils)
    with pytest.raises(InputError, match=r"'sums' could not be loaded: .*raw.githubusercontent"):
        fetch(config.evaluate)
    assert nltk.download == before


def test_a_task_asks_for_versions_as_setuptools_once_answered(
    hub: DatasetHub, tmp_path: Path
) -> None:
    """As IFEval does while it is imported."""
    config = configuration(tmp_path, process_docs="FUNCTION utils.as_they_are")
    asked = "import pkg_resources\n\nassert pkg_resources.get_distribution('nltk').version > '3'\n"
    text = f"{asked}\n\ndef as_they_are(docs):\n    return docs\n"
    (tmp_path / "tasks/utils.py").write_text(text)
    assert len(questions(config)) == 5


def test_the_command_takes_tasks_or_those_of_a_configuration(
    hub: DatasetHub, tmp_path: Path
) -> None:
    path = tmp_path / "config.json"
    path.write_text(configuration(tmp_path).model_dump_json())

    def ran(*arguments: str) -> str:
        command = ["fetch-tasks", *arguments]
        return CliRunner().invoke(app, command, catch_exceptions=False).stdout

    assert "sums: 5 questions" in ran("--config", str(path))
    assert "sums: 5 questions" in ran("sums", "-c", str(path), "--set", "evaluate.tasks=[gsm8k]")
    with pytest.raises(InputError, match=r"no tasks to fetch.*`tspin fetch-tasks gsm8k`"):
        ran()
