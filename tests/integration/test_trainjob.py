"""Training on several nodes: TrainJobs on a strict loopback API, each node a real process."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes_server import KubernetesServer, kubernetes_server
from safetensors.torch import load_file
from torch.testing import assert_close
from trainer_controller import Job
from training_runs import asked_of, finish, make_job, saved, wait_for, write_triplets

from tests import warm
from tests.local_pipelines import LocalKubeflow
from tspin.errors import InputError
from tspin.records.manifest import content_hash
from tspin.records.training_log import read_train_log
from tspin.train.job import TrainJob
from tspin.train.step import run_job, train
from tspin_pipelines.profiles.profile import Profile, load_profile

pytestmark = [pytest.mark.integration, pytest.mark.long]

LAUNCH = """
import json, logging, sys
from pathlib import Path
from tspin_trainjob.nodes import Nodes
from tspin_trainjob.step import train_on_nodes
from tspin.errors import TspinError
logging.basicConfig(level=logging.INFO, format="%(message)s")
given = json.loads(sys.argv[1])
try:
    train_on_nodes(
        given["settings"], nodes=Nodes.model_validate(given["nodes"]), model=given["model"],
        triplets=Path(given["triplets"]), iteration=1, out=Path(given["out"]), every=0.1,
    )
except TspinError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""
"""What the component does."""


@pytest.fixture
def api(tmp_path: Path) -> Iterator[KubernetesServer]:
    with kubernetes_server(tmp_path) as server:
        yield server


def several_nodes(volume: Path, nodes: int = 2, **stage: Any) -> Profile:
    """The profile `cpu`, training on several nodes that share a volume with the light steps."""
    values = load_profile("cpu").model_dump()
    mounted = [{"claim": "tspin-cache", "path": str(volume)}]
    values["stages"]["train"] |= {"nodes": nodes, "volumes": mounted, "env": {"A": "b"}} | stage
    values["stages"]["transfer"]["volumes"] = mounted
    return Profile.model_validate(values | {"training_runtime": "tspin-torch"})


def given(job: TrainJob, **stage: Any) -> dict[str, Any]:
    """What one training on nodes is given."""
    volume = job.out.parents[1] / "volume"
    volume.mkdir(exist_ok=True)
    job.out.parent.mkdir(exist_ok=True)
    nodes = several_nodes(volume, **stage).training_nodes(job.config).model_dump()
    return {
        "settings": job.config.model_dump_json(),
        "nodes": nodes,
        "model": job.model,
        "triplets": str(job.triplets),
        "out": str(job.out),
    }


def start(
    api: KubernetesServer, job: TrainJob, pod: str = "one", **stage: Any
) -> subprocess.Popen[str]:
    """The launcher in a process of its own, as in the pod of this name."""
    environment = {
        "KUBECONFIG": str(api.kubeconfig),
        "KFP_POD_NAME": pod,
        "KFP_POD_UID": f"uid-{pod}",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    return warm.Popen(
        [sys.executable, "-c", LAUNCH, json.dumps(given(job, **stage))],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def long_job(folder: Path, model: Path, name: str = "made", epochs: int = 40) -> TrainJob:
    """Long enough to be interrupted; its checkpoints outlive the nodes."""
    write_triplets(folder / "triplets.jsonl")
    system = {"checkpoints": str(folder / "checkpoints"), "tokens_per_device": 120}
    return make_job(folder, model, name, epochs=epochs, system=system)


def the_log(folder: Path) -> Path | None:
    """train_log.jsonl on the shared volume, once there is something in it."""
    found = list(folder.glob("volume/trainjobs/*/train_log.jsonl"))
    return found[0] if found and found[0].stat().st_size else None


def test_two_nodes_are_one_training(
    tmp_path: Path, tiny_model_dir: Path, api: KubernetesServer
) -> None:
    job = long_job(tmp_path, tiny_model_dir, "nodes", epochs=2)
    api.unavailable = 2
    process = start(api, job)
    printed = finish(process)
    assert process.returncode == 0, printed
    two = {"tokens_per_device": 120, "num_processes": 2}
    alone = make_job(tmp_path, tiny_model_dir, "alone", system=two)
    train(**asked_of(alone))
    ours, theirs = (load_file(j.out / "model.safetensors") for j in (job, alone))
    for name, weight in ours.items():
        assert_close(weight, theirs[name], rtol=0, atol=0)
    assert len(read_train_log(job.out.with_name("train_log.jsonl"))) == 6
    assert "node 0" in printed
    assert "node 1" in printed
    assert "loss" in printed  # The first node's own log.
    assert api.jobs == {}
    assert api.asked.count("delete") == 1
    assert list((tmp_path / "volume/trainjobs").iterdir()) == []


def test_a_failed_training_fails_with_what_its_nodes_said(
    tmp_path: Path, tiny_model_dir: Path, api: KubernetesServer
) -> None:
    same = write_triplets(tmp_path / "triplets.jsonl", annotated="So 46.", synthetic="So 46.")
    job = make_job(tmp_path, tiny_model_dir, triplets=same, method="spin")
    process = start(api, job)
    printed = finish(process)
    assert process.returncode == 1
    assert "the loss of method 'spin' cannot decrease" in printed
    assert "TspinError: TrainJob tspin-train-" in printed
    assert "failed: JobsFailed: jobset failed" in printed
    assert not job.out.exists()
    assert api.jobs == {}
    assert list((tmp_path / "volume/trainjobs").iterdir()) == []


def test_sigterm_ends_the_training_and_a_second_try_continues_it(
    tmp_path: Path, tiny_model_dir: Path, api: KubernetesServer
) -> None:
    job = long_job(tmp_path, tiny_model_dir)
    process = start(api, job)
    wait_for(process, lambda: any(saved(path, 4) for path in tmp_path.glob("checkpoints/*")))
    nodes = next(iter(api.jobs.values())).nodes
    process.send_signal(signal.SIGTERM)
    printed = finish(process)
    assert process.returncode == 143, printed
    assert api.jobs == {}
    for node in nodes:
        node.process.wait()
    second = start(api, job, "two")
    printed = finish(second)
    assert second.returncode == 0, printed
    assert api.asked.count("create") == 2
    told = [int(step) for step in re.findall(r"step (\d+) of 120", printed)]
    assert told[0] > 4  # The folder of the first try is gone, its checkpoint is not.
    steps = [row["step"] for row in read_train_log(job.out.with_name("train_log.jsonl"))]
    assert steps == list(range(1, 121))


def owner_of(job: Job) -> str:
    """The pod that a TrainJob ends with."""
    owners: list[dict[str, str]] = job.document["metadata"]["ownerReferences"]
    return owners[0]["uid"]


def test_a_killed_launcher_is_followed_by_the_next(
    tmp_path: Path, tiny_model_dir: Path, api: KubernetesServer
) -> None:
    job = long_job(tmp_path, tiny_model_dir)
    process = start(api, job)
    wait_for(process, lambda: the_log(tmp_path) is not None)
    (running,) = api.jobs.values()
    assert owner_of(running) == "uid-one"
    process.kill()
    process.communicate()
    second = start(api, job, "two")
    wait_for(second, lambda: owner_of(running) == "uid-two")
    printed = finish(second)
    assert second.returncode == 0, printed
    assert api.asked.count("create") == 2  # The second was refused: the first is there.
    steps = [row["step"] for row in read_train_log(job.out.with_name("train_log.jsonl"))]
    assert steps == list(range(1, 121))


def test_a_sharded_training_goes_on_without_a_node_that_is_lost(
    tmp_path: Path, tiny_model_dir: Path, api: KubernetesServer
) -> None:
    write_triplets(tmp_path / "triplets.jsonl")
    system = {"checkpoints": str(tmp_path / "checkpoints"), "tokens_per_device": 120}
    # Each node has a copy of the weights, of which each of its processes keeps half.
    system |= {"shard": "on", "num_processes": 2}
    job = make_job(tmp_path, tiny_model_dir, "nodes", epochs=20, system=system)
    stage = {"min_nodes": 1, "node_wait_minutes": 0.5 / 60}
    process = start(api, job, **stage)
    wait_for(process, lambda: any(tmp_path.glob("checkpoints/*/checkpoint-*/complete.json")))
    (running,) = api.jobs.values()
    api.machines = 1
    lost = running.nodes[1].process
    assert lost is not None
    os.killpg(lost.pid, signal.SIGKILL)
    printed = finish(process)
    assert process.returncode == 0, printed
    assert "no machine for node 1 in 0.5 s; going on with 1 nodes" in printed
    assert running.restarts == 1
    assert api.asked.count("create") == 2
    steps = [row["step"] for row in read_train_log(job.out.with_name("train_log.jsonl"))]
    assert steps == list(range(1, 61))
    alone = make_job(tmp_path, tiny_model_dir, "alone", epochs=20)
    run_job(alone)
    ours, theirs = (load_file(j.out / "model.safetensors") for j in (job, alone))
    for name, weight in ours.items():
        assert_close(weight, theirs[name], rtol=0, atol=2e-5)


def test_the_pipeline_trains_on_nodes(
    tmp_path: Path, api: KubernetesServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(api.kubeconfig))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    kubeflow = LocalKubeflow(tmp_path)
    config = kubeflow.config("iterations=1", "gate.margin=null")
    kubeflow.run("run", config, profile=several_nodes(kubeflow.shared))
    ran = kubeflow.tasks()
    assert (ran["train-multinode"], ran["train"], ran["evaluate"], ran["report"]) == (1, 0, 2, 1)
    trained = kubeflow.one("train-multinode", "trained") / "model"
    assert kubeflow.metadata("train-multinode", "trained")["sha256"] == content_hash(trained)
    assert (trained.parent / "train_log.jsonl").stat().st_size
    assert api.jobs == {}


def test_a_cluster_without_trainer(
    tmp_path: Path, tiny_model_dir: Path, api: KubernetesServer
) -> None:
    api.installed = False
    process = start(api, long_job(tmp_path, tiny_model_dir))
    printed = finish(process)
    assert process.returncode == 1
    assert "the cluster has no TrainJobs; install Kubeflow Trainer" in printed


def test_nodes_need_a_volume_in_common(tmp_path: Path, tiny_model_dir: Path) -> None:
    config = make_job(tmp_path, tiny_model_dir).config
    values = several_nodes(tmp_path).model_dump()
    values["stages"]["transfer"]["volumes"] = ()
    with pytest.raises(InputError, match=r"stages\.train and stages\.transfer must mount a claim"):
        Profile.model_validate(values).training_nodes(config)
