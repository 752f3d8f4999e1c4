"""Data sets by name: through the Hub's own clients, from a server on this machine."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from tests.hub_datasets import DatasetHub, dataset_hub
from tspin.cli.main import app
from tspin.data import hub_dataset
from tspin.errors import InputError, TspinError
from tspin.records.manifest import content_hash
from tspin.records.records import AnnotatedRecord, read_records

pytestmark = pytest.mark.integration

datasets = pytest.importorskip("datasets", reason="the extra hub is not installed")

NEW, OLD = "a" * 40, "b" * 40
SPLITS = ("train_sft", "train_gen", "test_sft")


def parquet(texts: list[str]) -> bytes:
    file = io.BytesIO()
    turns = [
        [{"role": "user", "content": text}, {"role": "assistant", "content": f"{text}!"}]
        for text in texts
    ]
    pq.write_table(pa.table({"prompt_id": texts, "messages": turns}), file)
    return file.getvalue()


def files(version: str) -> dict[str, bytes]:
    rows = {split: [f"{version} {split} {row}" for row in range(3)] for split in SPLITS}
    return {f"data/{split}-00000-of-00001.parquet": parquet(texts) for split, texts in rows.items()}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DatasetHub]:
    from huggingface_hub import HfFileSystem

    cache = tmp_path / "cache"
    with dataset_hub("acme/chat", {NEW: files("new"), OLD: files("old")}, {"v1": OLD}) as server:
        # Both read the environment once, as they are loaded.
        template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr("datasets.config.HF_ENDPOINT", server.url)
        monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", cache)
        HfFileSystem.clear_instance_cache()
        yield server
        HfFileSystem.clear_instance_cache()


def tspin(*arguments: object) -> str:
    ran = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    return ran.stdout


def test_a_split_at_a_revision_is_streamed_and_its_commit_written_down(
    hub: DatasetHub, tmp_path: Path
) -> None:
    out = tmp_path / "annotated.jsonl"
    options = ("--split", "train_sft", "--revision", "v1")
    told = tspin("data", "import", "acme/chat", "--out", out, *options)
    assert f"3 of 3 rows written to {out}\nfrom acme/chat@{OLD}\n" in told
    responses = [record.response for record in read_records(out, AnnotatedRecord)]
    assert responses == [f"old train_sft {row}!" for row in range(3)]
    manifest: dict[str, Any] = json.loads((tmp_path / "annotated.jsonl.manifest.json").read_bytes())
    assert manifest["inputs"]["hub"] == f"acme/chat@{OLD}"
    assert manifest["parameters"]["split"] == "train_sft"
    assert (manifest["kind"], manifest["sha256"]) == ("annotated", content_hash(out))

    first = out.read_bytes()
    tspin("data", "import", "hf://datasets/acme/chat", "--out", out, "--split", "train_sft")
    assert f"acme/chat@{NEW}" in (tmp_path / "annotated.jsonl.manifest.json").read_text()
    assert out.read_bytes() != first


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("acme/chat", ("--split", "train"), "any of train_gen, train_sft; .* found: test_sft, tr"),
        ("acme/chat", (), r"holds several splits \(test_sft, train_gen, train_sft\)"),
        ("acme/chat", ("--revision", "v9"), "has no revision 'v9'"),
        ("acme/chat", ("--subset", "main"), "has the configurations default; name one of them"),
        ("acme/other", (), "shows no such data set to you; is the name right"),
    ],
)
def test_what_the_hub_does_not_have_is_named(
    hub: DatasetHub, tmp_path: Path, name: str, options: tuple[str, ...], message: str
) -> None:
    out = tmp_path / "annotated.jsonl"
    with pytest.raises(InputError, match=message):
        tspin("data", "import", name, "--out", out, *options)
    assert not out.exists()


def test_without_a_network_the_way_to_fetch_is_told(
    hub: DatasetHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "annotated.jsonl"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("datasets.config.HF_ENDPOINT", "http://127.0.0.1:9")
    command = "hf download acme/chat --repo-type dataset --revision v1 --local-dir chat"
    with pytest.raises(InputError, match=f"cannot be reached(.|\n)*{command}"):
        tspin("data", "import", "acme/chat", "--revision", "v1", "--out", out)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=f"offline mode(.|\n)*{command}"):
        tspin("data", "import", "acme/chat", "--revision", "v1", "--out", out)


def test_a_stream_that_is_no_parquet_leaves_nothing(
    hub: DatasetHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = {"data/train-00000-of-00001.parquet": b"PAR1 and no more, at all"}
    monkeypatch.setattr(hub, "commits", {NEW: broken})
    with pytest.raises((TspinError, InputError), match="acme/chat"):
        tspin("data", "import", "acme/chat", "--out", tmp_path / "annotated.jsonl")
    assert not (tmp_path / "annotated.jsonl").exists()


def test_what_stands_here_comes_before_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "acme/chat").mkdir(parents=True)
    assert hub_dataset("acme/chat") is None
    assert hub_dataset("acme/missing.jsonl.gz") is None
    assert hub_dataset("acme/a/b") is None
    named = hub_dataset("hf://datasets/acme/chat", "v1")
    assert named is not None
    assert str(named) == "acme/chat@v1"
    with pytest.raises(InputError, match="--revision and --subset are for data sets on the Hub"):
        tspin("data", "import", "acme/chat", "--revision", "v1", "--out", "o.jsonl")
