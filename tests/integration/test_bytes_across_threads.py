"""The same bytes with the same number of threads, wherever the parts of the work are done.

The model is a GPT-2, whose gradients depend on the number of threads however small it is: that of
a LayerNorm is one partial sum a thread.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from training_runs import asked_of, finish, make_job, start, wait_for, write_sayings, write_triplets
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
from whole_runs import hashes

from tests import warm
from tests.ports import free_port
from tspin.config import load_config
from tspin.evaluate.step import evaluate
from tspin.generate.step import generate
from tspin.records.manifest import Manifest, content_hash, read_manifest
from tspin.selfplay import run as play
from tspin.train.job import TrainJob
from tspin.train.step import run_job, train
from tspin.triplets import build_triplets

pytestmark = [pytest.mark.integration, pytest.mark.long]


@pytest.fixture(scope="module")
def model_dir(
    tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: PreTrainedTokenizerFast
) -> Path:
    folder = tmp_path_factory.mktemp("gpt2")
    config = GPT2Config(
        vocab_size=len(tiny_tokenizer),
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=256,
        initializer_range=0.1,
        bos_token_id=tiny_tokenizer.bos_token_id,
        eos_token_id=tiny_tokenizer.eos_token_id,
        pad_token_id=tiny_tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        GPT2LMHeadModel(config).save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


class Project:
    """A folder with data and a configuration, and its run."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder = folder
        folder.mkdir()
        write_sayings(folder, annotated=12, heldout=4)
        self.file = folder / "run.yaml"
        self.file.write_text(
            f"run_dir: {folder}/run\niterations: 1\nmodel: {{path: {model}}}\n"
            f"data: {{annotated: {folder}/annotated.jsonl, heldout: {folder}/heldout.jsonl}}\n"
            "prompt: {template: instruction, max_length: 128}\n"
            "generate: {max_new_tokens: 12}\n"
            "train: {epochs: 1, learning_rate: 1.0e-4, global_batch_size: 4}\n"
            "system: {generate_batch_size: 4, checkpoint_steps: 1}\n"
        )
        self.config = load_config(self.file)
        self.run_dir = folder / "run"

    def kill_when(self, *patterns: str, threads: int) -> None:
        """Run in a process with so many threads by itself; SIGKILL it as soon as a path exists."""
        process = warm.Popen(
            [sys.executable, "-m", "tspin", "run", "--config", str(self.file)],
            env=os.environ | {"OMP_NUM_THREADS": str(threads)},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        wait_for(process, lambda: any(any(self.run_dir.glob(one)) for one in patterns))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL

    def outputs(self) -> dict[str, str]:
        """Hashes of everything a run leaves, but for what names its own folder."""
        return hashes(self.run_dir, "config.json")


@contextmanager
def own_threads(number: int) -> Iterator[None]:
    """What this process computes with by itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", str(number))
        before = torch.get_num_threads()
        torch.set_num_threads(number)
        yield
        torch.set_num_threads(before)


@pytest.fixture(scope="module")
def two_threads(tmp_path_factory: pytest.TempPathFactory, model_dir: Path) -> Project:
    """Run to its end with two threads by itself."""
    project = Project(tmp_path_factory.mktemp("two") / "project", model_dir)
    with own_threads(2):
        play(project.config)
    return project


@pytest.fixture
def one_thread() -> Iterator[None]:
    """This process computes with one by itself."""
    with own_threads(1):
        yield


def manifest_of(output: Path) -> Manifest:
    manifest = read_manifest(output)
    assert manifest is not None
    return manifest


def threads_of(output: Path) -> int:
    arithmetic = manifest_of(output).arithmetic
    assert arithmetic is not None
    return arithmetic.threads


EPOCHS = 10
"""30 steps: a kill at the first checkpoint comes long before the end."""
WEIGHTS, METRICS = "iter-0/model/model.safetensors", "iter-0/metrics.json"


@pytest.mark.usefixtures("one_thread")
def test_a_run_that_is_killed_goes_on_with_the_threads_of_its_beginning(
    two_threads: Project, tmp_path: Path, model_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = Project(tmp_path / "one", model_dir)
    play(one.config)
    # Losses of a few steps may round to the same figures, which depends on the processor.
    assert one.outputs()[WEIGHTS] != two_threads.outputs()[WEIGHTS]

    killed = Project(tmp_path / "killed", model_dir)
    checkpoint = "iter-0/model.checkpoints/checkpoint-*/complete.json"
    killed.kill_when(checkpoint, "iter-0/model", threads=2)
    assert not (killed.run_dir / METRICS).exists()
    play(killed.config)
    assert killed.outputs() == two_threads.outputs()
    assert json.loads((killed.run_dir / "arithmetic.json").read_bytes())["threads"] == 2
    assert "bytes may differ" not in caplog.text
    assert torch.get_num_threads() == 1


@pytest.mark.usefixtures("one_thread")
def test_single_steps_compute_as_their_inputs_were(two_threads: Project, tmp_path: Path) -> None:
    config = two_threads.config
    annotated, heldout = (two_threads.folder / f"{n}.jsonl" for n in ("annotated", "heldout"))
    run, made = two_threads.run_dir, tmp_path / "iter-0"
    for name in ("proto.jsonl", "heldout_proto.jsonl"):
        for file in (name, f"{name}.manifest.json"):
            shutil.copy(run / file, tmp_path / file)
    proto, triplets = tmp_path / "proto.jsonl", made / "triplets.jsonl"
    build_triplets(config.triplets, annotated=annotated, synthetic=proto, proto=proto, out=triplets)
    model = config.model.path
    train(config, model=model, triplets=triplets, iteration=0, out=made / "model")
    trained = str(made / "model")
    evaluate(
        config,
        model=trained,
        annotated=heldout,
        out=made / "metrics.json",
        proto=tmp_path / "heldout_proto.jsonl",
        iteration=0,
    )
    generate(config, model=trained, annotated=annotated, out=tmp_path / "next.jsonl", iteration=1)
    for name in (WEIGHTS, METRICS, "iter-0/model.manifest.json", "iter-0/triplets.jsonl"):
        ours, theirs = tmp_path / name, run / name
        if name.endswith("manifest.json"):  # The run knows of its processes what a step does not.
            assert threads_of(made / "model") == threads_of(run / "iter-0/model") == 2
            continue
        assert ours.read_bytes() == theirs.read_bytes(), name
    assert threads_of(tmp_path / "next.jsonl") == 2
    assert torch.get_num_threads() == 1
    generate(config, model=model, annotated=annotated, out=tmp_path / "fresh.jsonl", iteration=0)
    assert threads_of(tmp_path / "fresh.jsonl") == 1
    assert not [*tmp_path.rglob("*begun.json")]


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_triplets(tmp_path_factory.mktemp("examples") / "triplets.jsonl")


@pytest.fixture(scope="module")
def trained_with_two(
    tmp_path_factory: pytest.TempPathFactory, model_dir: Path, examples: Path
) -> TrainJob:
    """A training that was never killed."""
    folder = tmp_path_factory.mktemp("whole")
    job = make_job(folder, model_dir, triplets=examples, epochs=EPOCHS, system={"threads": 2})
    run_train(job)
    return job


def run_train(job: TrainJob) -> None:
    train(**asked_of(job))


@pytest.mark.usefixtures("one_thread")
def test_a_training_goes_on_with_the_threads_of_its_checkpoint(
    tmp_path: Path, model_dir: Path, examples: Path, trained_with_two: TrainJob
) -> None:
    job = make_job(tmp_path, model_dir, triplets=examples, epochs=EPOCHS)
    process = start(job, threads=2)
    wait_for(process, lambda: any(job.checkpoints.glob("checkpoint-*/complete.json")))
    process.send_signal(signal.SIGKILL)
    finish(process)
    assert not job.out.exists()
    run_train(job)
    for name in ("model/model.safetensors", "train_log.jsonl", "model.manifest.json"):
        ours, theirs = job.out.parent / name, trained_with_two.out.parent / name
        assert ours.read_bytes() == theirs.read_bytes(), name
    alone = make_job(tmp_path, model_dir, "alone", triplets=examples, epochs=EPOCHS)
    run_train(alone)
    assert threads_of(alone.out) == 1
    assert content_hash(alone.out) != content_hash(job.out)


def one_of_two(rank: int, job: str, port: str) -> None:
    """As a launcher starts the processes of a training."""
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    os.environ |= {name: str(value) for name, value in place.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    run_job(TrainJob.model_validate_json(job))


@pytest.mark.usefixtures("one_thread")
def test_the_processes_of_a_training_each_have_the_number(
    tmp_path: Path, model_dir: Path, examples: Path
) -> None:
    models = {}
    for threads in (2, 1):
        system = {"num_processes": 2, "threads": threads}
        name = f"threads-{threads}"
        job = make_job(tmp_path, model_dir, name, triplets=examples, epochs=1, system=system)
        warm.spawn(one_of_two, job.model_dump_json(), str(free_port()), processes=2)
        arithmetic = manifest_of(job.out).arithmetic
        assert arithmetic is not None
        assert (arithmetic.threads, arithmetic.processes) == (threads, 2)
        models[threads] = content_hash(job.out)
    assert models[1] != models[2]
