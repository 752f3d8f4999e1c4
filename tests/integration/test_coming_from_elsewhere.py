"""docs/start/coming-from-elsewhere.md, done for real: SPIN's folders, TRL's data sets, the Hub."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from huggingface_hub import ModelCard
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner, Result

from tests.hub_server import hub
from tspin.cli.main import app
from tspin.config import ModelConfig
from tspin.errors import InputError, TspinError
from tspin.models.policy import load_policy
from tspin.records.manifest import content_hash
from tspin.records.records import AnnotatedRecord, Triplet, read_records

pytestmark = pytest.mark.integration


def tspin(*arguments: object) -> Result:
    """A command in this process; its own errors are raised."""
    return CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)


def done(*arguments: object) -> str:
    ran = tspin(*arguments)
    assert ran.exit_code == 0, ran.output
    return ran.stdout


def turns(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


@pytest.fixture(scope="module")
def spin_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What SPIN's convert_data.py leaves: data/train-*.parquet and data/test-*.parquet."""
    folder = tmp_path_factory.mktemp("spin") / "iter0"
    for split, count in (("train", 12), ("test", 4)):
        rows = [
            {
                "real": turns(f"{split} question {row}?", f"The answer is {row}."),
                "generated": turns(f"{split} question {row}?", "I cannot say."),
            }
            for row in range(count)
        ]
        path = folder / f"data/{split}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), path)
    return folder


@pytest.fixture(scope="module")
def run(
    spin_folder: Path, tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path
) -> Callable[..., Path]:
    """One iteration on SPIN's data, as the page says."""
    folder = tmp_path_factory.mktemp("project")
    for split, name in (("train", "annotated"), ("test", "heldout")):
        out = folder / f"{name}.jsonl"
        done("data", "import", spin_folder, "--split", split, "--out", out)
    made: dict[str, Path] = {}

    def play(kind: str) -> Path:
        if kind not in made:
            made[kind] = folder / kind
            config = folder / f"{kind}.yaml"
            config.write_text(
                f"run_dir: {made[kind]}\niterations: 1\nmodel: {{path: {tiny_model_dir}}}\n"
                f"data: {{annotated: {folder}/annotated.jsonl, heldout: {folder}/heldout.jsonl}}\n"
                "prompt: {template: instruction, max_length: 128}\n"
                "generate: {max_new_tokens: 8}\n"
                "train: {epochs: 1, learning_rate: 1.0e-3, global_batch_size: 4"
                + (", lora: {r: 4}}\n" if kind == "lora" else "}\n")
            )
            done("run", "--config", config)
        return made[kind]

    return play


def test_spins_data_folders_become_a_run(run: Callable[..., Path]) -> None:
    folder = run("full")
    records = list(read_records(folder.parent / "annotated.jsonl", AnnotatedRecord))
    assert len(records) == 12
    assert records[3].messages[-1].content == "train question 3?"
    assert records[3].response == "The answer is 3."
    assert (folder / "report.html").is_file()


@pytest.mark.parametrize(
    ("rows", "ending"),
    [
        ([{"prompt": "Two and two?", "completion": "Four."}], "jsonl"),
        (
            [{"prompt": turns("Two and two?", "")[:1], "completion": turns("", "Four.")[1:]}],
            "jsonl",
        ),
        ([{"messages": turns("Two and two?", "Four.")}], "parquet"),
        ([{"prompt": "Two and two?", "chosen": "Four.", "rejected": "Five."}], "parquet"),
        (
            [{"chosen": turns("Two and two?", "Four."), "rejected": turns("Two and two?", "5")}],
            "jsonl",
        ),
    ],
    ids=["prompt-completion", "conversational", "messages", "preference", "implicit-prompt"],
)
def test_a_trl_data_set_is_imported(
    rows: list[dict[str, Any]], ending: str, tmp_path: Path
) -> None:
    """Written by datasets, as TRL's users have it."""
    datasets = pytest.importorskip("datasets", reason="lm-eval, which brings it, is not installed")
    path = tmp_path / f"rows.{ending}"
    made = datasets.Dataset.from_list(rows)
    made.to_parquet(path) if ending == "parquet" else made.to_json(path)
    done("data", "import", path, "--out", tmp_path / "annotated.jsonl")
    [record] = read_records(tmp_path / "annotated.jsonl", AnnotatedRecord)
    assert (record.messages[-1].content, record.response) == ("Two and two?", "Four.")


def test_triplets_go_back_to_trl(run: Callable[..., Path], tmp_path: Path) -> None:
    """The page's lines for a preference data set."""
    datasets = pytest.importorskip("datasets", reason="lm-eval, which brings it, is not installed")
    path = run("full") / "iter-0/triplets.jsonl"
    triplets = datasets.load_dataset(
        "json", data_files=str(path), split="train", cache_dir=str(tmp_path)
    )
    pairs = triplets.rename_columns({"annotated": "chosen", "synthetic": "rejected"})
    pairs = pairs.select_columns(["prompt", "chosen", "rejected"])
    first = next(iter(read_records(path, Triplet)))
    expected = (first.messages[-1].content, first.annotated, first.synthetic)
    assert (pairs[0]["prompt"], pairs[0]["chosen"], pairs[0]["rejected"]) == expected


def test_a_model_is_exported_with_a_card_that_the_hub_reads(
    run: Callable[..., Path], tmp_path: Path
) -> None:
    folder, out = run("full"), tmp_path / "my-model"
    done("export", folder, "--out", out, "--iteration", 0)
    model = folder / "iter-0/model"
    assert content_hash(out) == content_hash(model)
    AutoModelForCausalLM.from_pretrained(out)
    AutoTokenizer.from_pretrained(out)
    card = ModelCard.load(out / "README.md")
    assert (card.data.library_name, card.data.pipeline_tag) == ("transformers", "text-generation")
    assert "tspin" in card.data.tags
    metrics = json.loads((folder / "iter-0/metrics.json").read_bytes())["metrics"]
    results = {each.metric_type: each.metric_value for each in card.data.eval_results}
    assert results["nll_per_token"] == metrics["nll_per_token"]["value"]
    manifest = json.loads((folder / "iter-0/model.manifest.json").read_bytes())
    for expected in (manifest["inputs"]["annotated"], manifest["inputs"]["triplets"]):
        assert expected in card.text
    assert content_hash(out) in card.text
    assert "- method: tspin\n- alpha: 1.0\n- beta: 0.1 (0 at iteration 0)\n" in card.text
    assert "| base | " in card.text
    assert "| **0** (best) | " in card.text or "| 0 | " in card.text
    with pytest.raises(InputError, match="is there already, and not empty"):
        tspin("export", folder, "--out", out, "--iteration", 0)
    with pytest.raises(InputError, match=r"no iteration 7; it has \[0\]"):
        tspin("export", folder, "--out", tmp_path / "other", "--iteration", 7)


def test_an_adapter_is_merged(run: Callable[..., Path], tmp_path: Path) -> None:
    folder, plain, merged = run("lora"), tmp_path / "adapter", tmp_path / "merged"
    done("export", folder, "--out", plain, "--iteration", 0)
    done("export", folder, "--out", merged, "--iteration", 0, "--merge")
    assert ModelCard.load(plain / "README.md").data.library_name == "peft"
    assert ModelCard.load(merged / "README.md").data.library_name == "transformers"
    assert (plain / "adapter_config.json").is_file()
    assert not (merged / "adapter_config.json").exists()
    adapter = load_policy(
        str(plain), ModelConfig(path=str(plain)), device=torch.device("cpu"), trainable=False
    )
    ids = torch.arange(3, 20)[None]
    with torch.no_grad():
        expected = adapter(input_ids=ids).logits
        found = AutoModelForCausalLM.from_pretrained(merged).eval()(ids).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match="no adapter to merge"):
        tspin("export", run("full"), "--out", tmp_path / "x", "--iteration", 0, "--merge")
    assert not (tmp_path / "x").exists()


def test_nothing_is_pushed_without_a_token(
    run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    out = tmp_path / "model"
    with pytest.raises(InputError, match="needs a token that may write"):
        tspin("export", run("full"), "--out", out, "--push-to", "me/model")
    with pytest.raises(InputError, match="expected USER/NAME"):
        tspin("export", run("full"), "--out", out, "--push-to", "me/my/model")
    assert not out.exists()


def test_a_push_is_one_private_commit_of_model_and_card(
    run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the Hub's own client, to a server that keeps what it is sent."""
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    out, given = tmp_path / "model", ("--iteration", 0, "--push-to", "me/model")
    with hub() as server:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
        printed = done("export", run("full"), "--out", out, *given)
        assert "hf_secret" not in printed
        assert f"{server.url}/me/model/commit/" in printed
        [created] = server.created
        assert (created["name"], created["organization"]) == ("model", "me")
        assert created.get("private") is True or created.get("visibility") == "private"
        assert server.files == {path.name: path.read_bytes() for path in out.iterdir()}
        assert server.tokens == {"Bearer hf_secret"}
        with pytest.raises(InputError, match="use --merge"):
            tspin("export", run("lora"), "--out", tmp_path / "adapter", *given)
    with hub(refuse=403) as server:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
        with pytest.raises(TspinError, match="did not take it") as raised:
            tspin("export", run("full"), "--out", tmp_path / "again", *given)
    assert "hf_secret" not in str(raised.value)
