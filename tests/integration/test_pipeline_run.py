"""The whole run as a Kubeflow pipeline: the bytes of `tspin run`, and only what is missing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.local_pipelines import LocalKubeflow
from tests.model_registry_server import ModelRegistryServer
from tspin.files import sha256_folder
from tspin.records.manifest import content_hash
from tspin.registry import Registry
from tspin.selfplay import run as play
from tspin_pipelines.profiles.mirrors import Mirrors
from tspin_pipelines.profiles.profile import load_profile

pytestmark = [pytest.mark.integration, pytest.mark.long]


@pytest.fixture(scope="module")
def mirror() -> Iterator[ModelRegistryServer]:
    server = ModelRegistryServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def kubeflow(
    tmp_path_factory: pytest.TempPathFactory, mirror: ModelRegistryServer
) -> LocalKubeflow:
    """Two iterations, generation over two shards, promoted at the end and shown in a mirror."""
    made = LocalKubeflow(tmp_path_factory.mktemp("kubeflow"))
    profile = load_profile("cpu").model_copy(
        update={"mirrors": Mirrors(addresses=(mirror.mirror,))}
    )
    registry = str(made.folder / "registry")
    made.run("run", made.config(), profile=profile, shards=2, registry=registry)
    return made


def test_every_task_ran(kubeflow: LocalKubeflow) -> None:
    assert kubeflow.tasks(0) == Counter(
        {
            "check-registry": 1,
            "preflight": 1,
            "check-inputs": 1,
            "import-data": 2,
            "import-model": 1,
            "generate": 6,  # Both protos and y' of iteration 1, two shards each.
            "merge-responses": 3,
            "build-triplets": 2,
            "train": 2,
            "evaluate": 3,
            "gate": 3,
            "report": 1,
            "promote": 1,
        }
    )


def test_the_models_are_those_of_tspin_run(kubeflow: LocalKubeflow) -> None:
    # The profile fixes the number of threads for all tasks.
    threads = load_profile("cpu").threads(kubeflow.config())
    folder = play(kubeflow.config(f"system.threads={threads}"))
    trained = [path / "model" for path in kubeflow.all("train", "trained", 0)]
    assert [content_hash(path) for path in trained] == [
        content_hash(folder.iteration(number).model) for number in range(2)
    ]
    history = kubeflow.all("gate", "grown", 0)[-1]
    for number in range(2):
        ours = (history / f"iter-{number}/metrics.json").read_bytes()
        assert ours == folder.iteration(number).metrics.read_bytes()


def test_the_report_is_a_page_and_a_summary(kubeflow: LocalKubeflow) -> None:
    page = kubeflow.one("report", "page", 0).read_text()
    assert page.startswith("<!doctype html>")
    assert "All 2 iterations ran." in page
    assert "Where the time went" in page
    assert "Nobody timed" not in page
    summary = kubeflow.one("report", "summary", 0).read_text()
    assert "| Iteration |" in summary
    assert len([line for line in summary.splitlines() if line.startswith("| ")]) == 5


def test_artifacts_say_what_they_are(kubeflow: LocalKubeflow) -> None:
    metadata = kubeflow.metadata("report", "page", 0)
    assert metadata["bytes"] == kubeflow.one("report", "page", 0).stat().st_size
    history = kubeflow.all("gate", "grown", 0)[-1]
    told = json.loads((history.parent / "executor_output.json").read_bytes())
    grown = told["artifacts"]["grown"]["artifacts"][0]["metadata"]
    assert (grown["iteration"], grown["sha256"]) == (1, sha256_folder(history, "*"))
    trained = kubeflow.all("train", "trained", 0)[1]
    assert '"iteration": 1' in (trained.parent / "executor_output.json").read_text()
    assert content_hash(trained / "model") in (trained.parent / "executor_output.json").read_text()


def test_the_best_model_is_promoted(kubeflow: LocalKubeflow) -> None:
    champion = Registry(str(kubeflow.folder / "registry")).champion()
    assert champion is not None
    hashes = {content_hash(path / "model") for path in kubeflow.all("train", "trained", 0)}
    assert champion.model in hashes
    assert champion.metric == "nll_per_token"


def test_the_champion_is_shown_in_the_mirror_with_the_run_that_made_it(
    kubeflow: LocalKubeflow, mirror: ModelRegistryServer
) -> None:
    champion = Registry(str(kubeflow.folder / "registry")).champion()
    assert champion is not None
    assert mirror.flagged() == [champion.model]
    (artifact,) = mirror.artifacts.values()
    source = (artifact["modelSourceKind"], artifact["modelSourceGroup"])
    assert source == ("kfp", load_profile("cpu").namespace)
    assert f"kfp://tspin/{artifact['modelSourceId']}/{artifact['modelSourceName']}" == champion.run


def test_a_second_run_takes_all_from_the_cache(kubeflow: LocalKubeflow) -> None:
    kubeflow.run("run", kubeflow.config(), shards=2, registry=str(kubeflow.folder / "registry"))
    assert kubeflow.tasks() == Counter(
        {"preflight": 1, "check-registry": 1, "check-inputs": 1, "promote": 1}
    )


def test_a_registry_that_cannot_be_promoted_to_ends_the_run_before_it_begins(
    kubeflow: LocalKubeflow,
) -> None:
    registry = kubeflow.folder / "harmed"
    (registry / "champion").mkdir(parents=True)
    (registry / "champion/00000002.json").write_text("{}")
    with pytest.raises(RuntimeError, match="check-registry"):
        kubeflow.run("run", kubeflow.config(), shards=2, registry=str(registry))
    assert kubeflow.tasks() == Counter({"preflight": 1})


def test_one_more_iteration_plays_only_that_one(kubeflow: LocalKubeflow) -> None:
    kubeflow.run("run", kubeflow.config("iterations=3"), shards=2)
    ran = kubeflow.tasks()
    expected = {"generate": 2, "merge-responses": 1, "build-triplets": 1, "train": 1, "evaluate": 1}
    assert {name: ran[name] for name in expected} == expected
    assert ran["import-data"] == ran["import-model"] == 0


def test_an_edited_configuration_that_needs_other_steps_is_refused(
    kubeflow: LocalKubeflow, capfd: pytest.CaptureFixture[str]
) -> None:
    edited = kubeflow.config("iterations=7").model_dump_json()
    with pytest.raises(RuntimeError, match="check-inputs"):
        kubeflow.run("run", kubeflow.config(), given={"config": edited})
    assert "iterations: 2 -> 7" in capfd.readouterr().out
    assert kubeflow.tasks() == Counter({"preflight": 1})


def test_other_data_is_not_taken_from_the_cache(kubeflow: LocalKubeflow) -> None:
    config = kubeflow.config("iterations=1", "gate.margin=null")
    heldout = Path(str(config.data.heldout))
    lines = heldout.read_text().splitlines(keepends=True)
    heldout.write_text("".join(lines[:-1]))
    try:
        kubeflow.run("run", config, shards=2)
    finally:
        heldout.write_text("".join(lines))
    ran = kubeflow.tasks()
    assert (ran["import-data"], ran["evaluate"], ran["train"]) == (1, 2, 0)
