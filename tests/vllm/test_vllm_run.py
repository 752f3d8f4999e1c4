"""A whole run with vLLM, and its result behind vLLM's server, as docs/guides/serving.md says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import requests
from vllm_setup import DEADLINE, QUICK, START, make_config, server

from tspin.engines import GenerationRequest, SamplingParams, open_engine
from tspin.models.policy import load_tokenizer
from tspin.records.manifest import content_hash, read_manifest
from tspin.records.records import AnnotatedRecord, Message, write_records
from tspin.tokens.prompts import PromptTemplate


@pytest.fixture(scope="module")
def run_folder(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two iterations of LoRA, made by the command."""
    folder = tmp_path_factory.mktemp("run")
    records = [
        AnnotatedRecord(id=f"r{i}", messages=[_user(f"{i} and {i}?")], response=f"{2 * i}")
        for i in range(12)
    ]
    write_records(folder / "annotated.jsonl", records)
    config = make_config(
        base,
        run_dir=str(folder / "run"),
        iterations=2,
        data={"annotated": str(folder / "annotated.jsonl")},
        generate={"max_new_tokens": 16, "engine_args": {**QUICK, "kv_cache_memory_bytes": 2**28}},
        train={"lora": {"r": 2}, "learning_rate": 1e-2, "global_batch_size": 4, "epochs": 1},
    )
    (folder / "config.yaml").write_text(config.model_dump_json())
    _tspin("run", "--config", str(folder / "config.yaml"))
    return folder


def _user(text: str) -> Message:
    return Message(role="user", content=text)


def _tspin(*arguments: str) -> str:
    command = [sys.executable, "-m", "tspin", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    # Nothing that fails unheard as the interpreter ends.
    assert "Exception ignored" not in done.stdout
    assert "was destroyed but it is pending" not in done.stdout
    return done.stdout


def test_two_iterations_with_vllm(run_folder: Path, base: Path) -> None:
    run = run_folder / "run"
    first, second = (read_manifest(run / f"iter-{n}" / "synthetic.jsonl") for n in (0, 1))
    assert first is not None
    assert second is not None
    assert first.engine == second.engine == "vllm"
    assert first.model == content_hash(base)
    # The second iteration played with the first one's adapter, on the base.
    assert second.model == f"{content_hash(run / 'iter-0' / 'model')}+{content_hash(base)}"
    texts = [(run / f"iter-{n}" / "synthetic.jsonl").read_text() for n in (0, 1)]
    assert [text.count("\n") for text in texts] == [12, 12]
    assert texts[0] != texts[1]
    assert (run / "iter-1" / "model" / "adapter_config.json").is_file()
    assert (run / "report.html").is_file()


def test_the_finished_run_starts_no_engine(run_folder: Path) -> None:
    told = _tspin("run", "--config", str(run_folder / "config.yaml"))
    assert "generate:" not in told  # The progress of a generation.


def test_the_adapter_behind_vllms_server_answers_as_here(run_folder: Path, base: Path) -> None:
    model = run_folder / "run" / "iter-1" / "model"
    config = make_config(base, generate={"engine": "transformers", "engine_args": {}})
    template = PromptTemplate.load(load_tokenizer(str(model), config.model), "auto")
    messages = [_user("12 and 34?")]
    request = GenerationRequest("one", tuple(template.prompt_ids(messages)), seed=0)
    sampling = SamplingParams(temperature=0.0, top_p=1.0, max_new_tokens=24)
    ((wanted,),) = open_engine(config, str(model), template).generate([request], sampling)
    lora = ["--enable-lora", "--lora-modules", f"policy={model}"]
    quick = ["--dtype", "float32", "--max-model-len", "200", "--enforce-eager"]
    with server([*START, "--model", str(base), *lora, *quick]) as address:
        asked = {"model": "policy", "prompt": template.render(messages)}
        asked |= {"temperature": 0, "max_tokens": 24}
        answer = requests.post(f"{address}/v1/completions", json=asked, timeout=DEADLINE)
        assert answer.ok, answer.text
        found = answer.json()["choices"][0]
    assert found["finish_reason"] == wanted.finish_reason
    # Where the last token is only a part of a character, vLLM's server holds that part back.
    texts = [text.rstrip("\ufffd") for text in (found["text"], wanted.text)]
    assert texts[0] == texts[1] != ""
