"""With how many threads a step computes, what says so, and that they are given back."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tspin.config import RunConfig, SystemConfig
from tspin.errors import InputError
from tspin.models.device import denormals_flushed
from tspin.models.threads import Work, arithmetic_here, begin_run, threads_held
from tspin.records.arithmetic import Arithmetic, begun_path, read_arithmetic
from tspin.records.manifest import (
    Manifest,
    computed_with,
    is_current,
    manifest_path,
    read_manifest,
    write_manifest,
)

WANTED = Manifest(kind="responses", parameters={"temperature": 1.0})
OWN = 3
"""What torch takes by itself in these tests."""


@pytest.fixture(autouse=True)
def _own_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("OMP_NUM_THREADS", str(OWN))
    before = torch.get_num_threads()
    torch.set_num_threads(OWN)
    yield
    torch.set_num_threads(before)


def record(**changes: object) -> Arithmetic:
    """As this machine computes, but for what is changed."""
    return arithmetic_here(SystemConfig()).model_copy(update=changes)


def made(path: Path, arithmetic: Arithmetic | None) -> Path:
    """An output that was computed so."""
    path.write_text("made")
    write_manifest(path, WANTED.model_copy(update={"arithmetic": arithmetic}))
    return path


def work(folder: Path, *inputs: Path, run: Arithmetic | None = None, **system: object) -> Work:
    settings = SystemConfig.model_validate(system)
    named = {f"input {at}": path for at, path in enumerate(inputs)}
    return Work(settings, WANTED, begun_path(folder / "out"), run, named)


def computed(task: Work) -> tuple[int, Manifest]:
    """The threads inside, and the manifest."""
    with task.computing() as signed:
        return torch.get_num_threads(), signed


def test_the_order_in_which_a_number_is_looked_for(tmp_path: Path) -> None:
    policy = made(tmp_path / "policy", record(threads=4))
    triplets = made(tmp_path / "triplets", record(threads=5))
    unknown = made(tmp_path / "old", None)
    assert computed(work(tmp_path))[0] == OWN
    assert computed(work(tmp_path, unknown, triplets))[0] == 5
    assert computed(work(tmp_path, policy, triplets))[0] == 4
    killed = work(tmp_path, policy)
    work(tmp_path, threads=2).begin()
    assert computed(killed)[0] == 2
    work(tmp_path, threads=2).begin()
    assert computed(work(tmp_path, policy, run=record(threads=1)))[0] == 1
    threads, signed = computed(work(tmp_path, policy, run=record(threads=1), threads=6))
    assert threads == 6
    assert signed.arithmetic is not None
    assert signed.arithmetic.threads == 6
    assert signed.bytes_may_differ == (
        "computed otherwise than the beginning of the run (threads 6 instead of 1)"
    )


def test_cores_are_shared_out_over_the_processes_of_a_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(6)
    assert arithmetic_here(SystemConfig(device="cpu", num_processes=2)).threads == 6
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert arithmetic_here(SystemConfig(device="cpu", num_processes=2)).threads == 3
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    assert arithmetic_here(SystemConfig(device="cpu")).threads == 2
    assert arithmetic_here(SystemConfig(device="cpu", num_processes=16)).threads == 1


def test_threads_are_given_back_after_a_step_and_after_an_error(tmp_path: Path) -> None:
    task = work(tmp_path, threads=1)
    with task.computing():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == OWN
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RuntimeError), task.computing():
        raise RuntimeError("killed")
    assert torch.get_num_threads() == OWN
    assert begun_path(tmp_path / "out").is_file()  # The work goes on from here.
    begun_path(tmp_path / "out").unlink()
    with pytest.raises(InputError), task.computing():
        raise InputError("broken")
    assert torch.get_num_threads() == OWN
    assert list(tmp_path.iterdir()) == []


def test_what_was_begun_belongs_to_one_work(tmp_path: Path) -> None:
    work(tmp_path, threads=1).begin()
    other = WANTED.model_copy(update={"parameters": {"temperature": 0.5}})
    task = Work(SystemConfig(), other, begun_path(tmp_path / "out"), None, {})
    assert computed(task)[0] == OWN
    begun_path(tmp_path / "out").write_text('{"threads": ')
    assert computed(work(tmp_path))[0] == OWN


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"torch": "2.1.0"}, f"torch {torch.__version__} instead of 2.1.0"),
        ({"device": "NVIDIA H100"}, "instead of NVIDIA H100"),
        ({"blas": "open"}, "instead of open"),
    ],
)
def test_what_cannot_be_chosen_is_told_and_the_work_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: dict[str, str], told: str
) -> None:
    caplog.set_level(logging.WARNING, "tspin")
    policy = made(tmp_path / "policy", record(threads=2, **change))
    threads, signed = computed(work(tmp_path, policy))
    assert threads == 2
    assert signed.bytes_may_differ is not None
    assert told in signed.bytes_may_differ
    assert [told in message and "bytes may differ" in message for message in caplog.messages] == [
        True
    ]


def test_within_a_run_it_is_told_once_and_stands_in_every_manifest(
    tmp_path: Path, tiny_model_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "tspin")
    config = RunConfig.model_validate(
        {"run_dir": "r", "model": {"path": str(tiny_model_dir)}, "data": {"annotated": "a"}}
    )
    path = tmp_path / "arithmetic.json"
    assert begin_run(config, path).threads == OWN
    values = json.loads(path.read_bytes())
    path.write_text(json.dumps(values | {"torch": "2.1.0", "threads": 2, "added_later": 1}))
    begun = begin_run(config, path)
    assert begun.threads == 2
    policy = made(tmp_path / "policy", record(device="another"))
    for _ in range(2):
        threads, signed = computed(work(tmp_path, policy, run=begun))
        assert threads == 2
        assert signed.bytes_may_differ == (
            "computed otherwise than the beginning of the run "
            f"(torch {torch.__version__} instead of 2.1.0)"
        )
    assert len(caplog.messages) == 1
    assert read_arithmetic(path) == begun


def test_a_run_is_begun_with_the_threads_of_its_initial_policy(tmp_path: Path) -> None:
    policy = made(tmp_path / "policy", record(threads=1, device="another"))
    config = RunConfig.model_validate(
        {"run_dir": "r", "model": {"path": str(policy)}, "data": {"annotated": "a"}}
    )
    begun = begin_run(config, tmp_path / "arithmetic.json")
    assert (begun.threads, begun.device) == (1, record().device)


def test_no_output_becomes_stale_and_older_manifests_are_unknown(tmp_path: Path) -> None:
    path = made(tmp_path / "out", record(threads=7))
    assert is_current(path, WANTED)
    assert computed_with(path) == record(threads=7)
    values = json.loads(manifest_path(path).read_bytes())
    del values["arithmetic"], values["bytes_may_differ"]
    manifest_path(path).write_text(json.dumps(values))
    assert is_current(path, WANTED)
    assert read_manifest(path) is not None
    assert computed_with(path) is None
    assert computed_with(tmp_path / "nothing") is None
    assert computed_with(Path()) is None


def test_flushed_denormals_do_not_depend_on_what_the_process_did_before() -> None:
    halves: dict[str, list[bool]] = {}

    def compute(name: str, *, before: bool) -> None:
        # A thread of Python's has threads of OpenMP's own.
        torch.set_num_threads(2)
        if before:
            torch.ones(1 << 17).mul_(2)
        with threads_held(2), denormals_flushed():
            tiny = torch.full((1 << 17,), 2e-38).mul_(0.1)  # Normal, and then not.
        # As integers: a comparison would take denormals as 0 itself.
        halves[name] = [bool((half == 0).all()) for half in tiny.view(torch.int32).chunk(2)]

    for name, before in (("first", False), ("later", True)):
        thread = threading.Thread(target=compute, args=(name,), kwargs={"before": before})
        thread.start()
        thread.join()
    assert halves["first"] == halves["later"]
    assert halves["first"][0]
