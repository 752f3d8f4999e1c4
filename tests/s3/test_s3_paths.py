"""Every command with `s3://` paths: the bytes of local ones, whole or not there, fetched once."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import boto3
import pytest
from typer.testing import CliRunner

from tests.s3.fault_proxy import FaultProxy
from tspin.cli.main import app
from tspin.demo.demo import write_demo
from tspin.files import sha256_file
from tspin.records.manifest import content_hash
from tspin.records.seconds import SECONDS
from tspin.store import fetch, open_store

pytestmark = pytest.mark.s3

ROOT = Path(__file__).parents[2]
SMALL = [
    *("--set", "generate.max_new_tokens=16", "--set", "iterations=1"),
    *("--set", "train.global_batch_size=4", "--set", "system.tokens_per_device=400"),
    *("--set", "prompt.max_length=200", "--set", "gate.margin=null"),
]


@pytest.fixture
def demo(tmp_path: Path, bucket: str) -> Path:
    """The demo's model and a little of its data, here and in the bucket."""
    made = tmp_path / "demo"
    write_demo(made)
    for name, count in (("annotated", 12), ("heldout", 4)):
        lines = (made / f"{name}.jsonl").read_bytes().splitlines(keepends=True)
        (made / f"{name}.jsonl").write_bytes(b"".join(lines[:count]))
    store = open_store(bucket)
    for path in made.rglob("*"):
        if path.is_file():
            store.upload(path, f"demo/{path.relative_to(made).as_posix()}")
    return made


def tspin(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tspin", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def done(*arguments: str) -> str:
    """What a command prints; in this process, which has loaded what every command needs."""
    ran = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    return ran.stdout


def test_each_step_makes_the_same_in_a_bucket_as_on_a_disk(
    demo: Path, bucket: str, tmp_path: Path
) -> None:
    for base, out in ((str(demo), str(tmp_path / "here")), (f"{bucket}/demo", f"{bucket}/there")):
        data = ("--annotated", f"{base}/annotated.jsonl")
        model = ("--model", f"{base}/base")
        done("generate", *model, *data, "--out", f"{out}/y.jsonl", *SMALL)
        responses = ("--synthetic", f"{out}/y.jsonl", "--proto", f"{out}/y.jsonl")
        done("build-triplets", *data, *responses, "--out", f"{out}/t.jsonl")
        triplets = ("--triplets", f"{out}/t.jsonl")
        done("train", *model, *triplets, "--out", f"{out}/iter-0/model", *SMALL)
        heldout = ("--annotated", f"{base}/heldout.jsonl")
        trained = ("--model", f"{out}/iter-0/model")
        done("evaluate", *trained, *heldout, "--out", f"{out}/iter-0/metrics.json", *SMALL)
    here = tmp_path / "here"
    keys = set(open_store(f"{bucket}/there").list())
    # The seconds that a step took stay on the machine that it ran on.
    made = (p for p in here.rglob("*") if p.is_file() and not p.name.endswith(SECONDS))
    assert keys == {path.relative_to(here).as_posix() for path in made}
    for name in ("y.jsonl", "t.jsonl", "iter-0/metrics.json", "iter-0/train_log.jsonl"):
        assert fetch(f"{bucket}/there/{name}").read_bytes() == (here / name).read_bytes()
    assert content_hash(fetch(f"{bucket}/there/iter-0/model")) == content_hash(
        here / "iter-0/model"
    )
    assert not list((tmp_path / "cache/made").glob("*/*"))


def test_a_run_in_a_bucket_goes_on_elsewhere(
    demo: Path, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {
        "model.path": f"{bucket}/demo/base",
        "data.annotated": f"{bucket}/demo/annotated.jsonl",
        "data.heldout": f"{bucket}/demo/heldout.jsonl",
        "evaluate.harness.task_folder": f"{bucket}/demo/tasks",
        "evaluate.harness.fraction": "0.02",
    }
    settings = [part for key, value in given.items() for part in ("--set", f"{key}={value}")]
    config = ["--config", str(ROOT / "configs/demo.yaml"), *SMALL, *settings]
    done("run", *config, "--set", f"run_dir={bucket}/runs/a")
    monkeypatch.setenv("TSPIN_CACHE", str(tmp_path / "another machine"))
    printed = done("run", *config, "--set", f"run_dir={bucket}/runs/a", "--set", "iterations=2")
    assert f"report: {bucket}/runs/a/report.html" in printed
    done("run", *config, "--set", f"run_dir={tmp_path}/b", "--set", "iterations=2")
    for number in (0, 1):
        there = fetch(f"{bucket}/runs/a/iter-{number}/model")
        assert content_hash(there) == content_hash(tmp_path / f"b/iter-{number}/model")
    assert done("report", f"{bucket}/runs/a").strip() == f"{bucket}/runs/a/report.html"
    page = fetch(f"{bucket}/runs/a/report.html").read_text()
    assert "All 2 iterations ran." in page


def test_data_commands_and_promotion_take_uris(demo: Path, bucket: str) -> None:
    source = f"{bucket}/demo/annotated.jsonl"
    done("data", "import", source, "--out", f"{bucket}/all.jsonl")
    done("data", "validate", f"{bucket}/all.jsonl")
    sides = ("--train", f"{bucket}/a.jsonl", "--heldout", f"{bucket}/h.jsonl", "--share", "0.4")
    done("data", "split", f"{bucket}/all.jsonl", *sides)
    heldout = ("--annotated", f"{bucket}/h.jsonl")
    model = f"{bucket}/demo/base"
    done("evaluate", "--model", model, *heldout, "--out", f"{bucket}/m/metrics.json", *SMALL)
    given = ("--candidate", model, "--metrics", f"{bucket}/m/metrics.json")
    assert "champion 1" in done("promote", *given, "--registry", f"{bucket}/registry")


def test_what_has_not_changed_is_fetched_once(
    faulty_bucket: str, proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TSPIN_CACHE", str(tmp_path / "cache"))
    store = open_store(faulty_bucket)
    found, downloads = [], []
    for content in ("one", "one", "two"):
        if content not in found:
            (tmp_path / "x").write_text(content)
            store.upload(tmp_path / "x", "data.jsonl")
        found.append(fetch(f"{faulty_bucket}/data.jsonl").read_text())
        downloads.append(sum("/data.jsonl" in r and r[:3] == "GET" for r in proxy.requests))
    assert found == ["one", "one", "two"]
    assert downloads == [1, 1, 2]


def test_a_killed_generation_leaves_nothing_and_continues(
    demo: Path, bucket: str, tmp_path: Path
) -> None:
    data = (demo / "annotated.jsonl").read_bytes()
    given = ["generate", "--model", f"{bucket}/demo/base"]
    given += ["--annotated", f"{bucket}/demo/annotated.jsonl", "--out", f"{bucket}/y.jsonl", *SMALL]
    given += ["--set", "system.generate_batch_size=1"]
    process = subprocess.Popen([sys.executable, "-m", "tspin", *given], cwd=ROOT)
    journal = tmp_path / "cache/made"
    while not any(path.stat().st_size for path in journal.glob("*/.y.jsonl.partial.jsonl")):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.01)  # Leaves it the core that looking all the time would take.
            raise AssertionError("it ended before it had written anything")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list(open_store(bucket).list("y.jsonl"))
    done(*given)
    assert len(fetch(f"{bucket}/y.jsonl").read_bytes().splitlines()) == len(data.splitlines())


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("{bucket}/nothing.jsonl", "no such object, and nothing below it"),
        ("s3://only-a-bucket", "names a bucket only"),
        ("ftp://bucket/key", "unknown kind of store 'ftp'"),
    ],
)
def test_wrong_locations_are_one_message(location: str, expected: str, bucket: str) -> None:
    ran = tspin("data", "validate", location.format(bucket=bucket))
    assert ran.returncode == 2
    assert expected in ran.stderr
    assert "Traceback" not in ran.stderr


def test_memory_stays_small_while_a_large_object_goes_up_and_down(
    bucket: str, tmp_path: Path
) -> None:
    """A quarter GiB, in a process that may have 200 MiB, Python and boto3 among them."""
    script = (
        "import sys; from pathlib import Path\n"
        "from tspin.store import open_store\n"
        "store = open_store(sys.argv[1])\n"
        "store.upload(Path(sys.argv[2]), 'large')\n"
        "store.download('large', Path(sys.argv[2] + '.back'))\n"
        # Not ru_maxrss: that of this process is inherited.
        "status = Path('/proc/self/status').read_text()\n"
        "print(int(status.partition('VmHWM:')[2].split()[0]) / 1024)\n"
    )
    large = tmp_path / "large"
    with large.open("wb") as file:
        for _ in range(256):
            file.write(os.urandom(1 << 20))
    ran = subprocess.run(
        [sys.executable, "-c", script, bucket, str(large)], capture_output=True, text=True, cwd=ROOT
    )
    assert ran.returncode == 0, ran.stderr
    assert float(ran.stdout) < 200
    assert sha256_file(tmp_path / "large.back") == sha256_file(large)
    head = boto3.client("s3").head_object(Bucket=bucket.removeprefix("s3://"), Key="large")
    assert head["ETag"].endswith('-16"')  # 16 parts of 16 MiB.
