"""The generate step with a real model: killed, continued, shared out differently, refused."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from training_runs import wait_for, write_apples
from transformers import AutoModelForCausalLM, GPT2Config, Qwen2Config

from tests import warm
from tspin.config import (
    DataConfig,
    GenerateConfig,
    ModelConfig,
    PromptConfig,
    RunConfig,
    SystemConfig,
)
from tspin.errors import InputError
from tspin.generate.step import generate
from tspin.records.manifest import content_hash, journal_path, manifest_path, read_manifest
from tspin.records.records import AnnotatedRecord, Response, read_records, write_records

pytestmark = pytest.mark.integration

PROMPT = PromptConfig(max_length=200)

PROCESS = """
import json, resource, sys
from pathlib import Path
from tspin.config import RunConfig
from tspin.errors import TspinError
from tspin.generate.step import generate
order = json.loads(sys.argv[1])
if order["largest_file"]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (order["largest_file"], resource.RLIM_INFINITY))
config = RunConfig.model_validate_json(json.dumps(order["config"]))
try:
    generate(config, model=config.model.path, annotated=Path(config.data.annotated),
             out=Path(order["out"]), iteration=1, drafts=Path(order["drafts"]))
except TspinError as error:
    sys.exit(f"refused: {error}")
"""


@pytest.fixture(scope="module")
def annotated(tmp_path_factory) -> Path:
    return write_apples(tmp_path_factory.mktemp("data") / "annotated.jsonl")


def make_config(
    model: Path,
    annotated: Path,
    *,
    batch_size: int = 4,
    prompt: PromptConfig = PROMPT,
    **sampling,
) -> RunConfig:
    return RunConfig(
        run_dir=Path("unused"),
        seed=3,
        model=ModelConfig(path=str(model)),
        data=DataConfig(annotated=annotated),
        prompt=prompt,
        generate=GenerateConfig(**{"max_new_tokens": 48, **sampling}),
        system=SystemConfig(device="cpu", generate_batch_size=batch_size),
    )


def run(config: RunConfig, out: Path, *, annotated: Path | None = None):
    source = annotated or Path(config.data.annotated)
    return generate(config, model=config.model.path, annotated=source, out=out, iteration=1)


def start(
    config: RunConfig, out: Path, *, largest_file: int = 0, drafts: Path = Path("absent.jsonl")
) -> subprocess.Popen[str]:
    order = {
        "config": config.model_dump(mode="json"),
        "out": str(out),
        "drafts": str(drafts),
        "largest_file": largest_file,
    }
    command = [sys.executable, "-c", PROCESS, json.dumps(order)]
    return warm.Popen(command, stderr=subprocess.PIPE, text=True)


def wait_for_lines(process: subprocess.Popen[str], journal: Path, lines: int) -> None:
    wait_for(process, lambda: journal.exists() and journal.read_bytes().count(b"\n") >= lines)


@pytest.fixture(scope="module")
def whole(tiny_model_dir, annotated, tmp_path_factory) -> Path:
    """The output of a run that nothing interrupted."""
    out = tmp_path_factory.mktemp("whole") / "synthetic.jsonl"
    run(make_config(tiny_model_dir, annotated), out)
    return out


def test_killed_and_started_again_gives_the_same_bytes(tiny_model_dir, annotated, whole, tmp_path):
    config, out = make_config(tiny_model_dir, annotated), tmp_path / "synthetic.jsonl"
    process = start(config, out)
    wait_for_lines(process, journal_path(out), 1 + 8)  # The header and two batches.
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not out.exists()
    assert not manifest_path(out).exists()
    run(config, out)
    assert out.read_bytes() == whole.read_bytes()
    assert manifest_path(out).read_bytes() == manifest_path(whole).read_bytes()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [
        ".synthetic.jsonl.seconds.json",
        "synthetic.jsonl",
        "synthetic.jsonl.manifest.json",
    ]


def test_no_response_is_lost_before_the_manifest_is_there(
    tiny_model_dir: Path,
    annotated: Path,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config, out = make_config(tiny_model_dir, annotated), tmp_path / "synthetic.jsonl"
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("tspin.records.manifest.write_json", _killed)
        run(config, out)
    assert out.read_bytes() == whole.read_bytes()
    assert not manifest_path(out).exists()
    with monkeypatch.context() as patched:
        patched.setattr("tspin.generate.step.open_engine", _killed)  # Nothing is left to ask.
        run(config, out)
    assert manifest_path(out).read_bytes() == manifest_path(whole).read_bytes()
    assert not journal_path(out).exists()


def _killed(*given: object, **named: object) -> None:
    raise KeyboardInterrupt


def test_full_disk_ends_with_a_message_and_a_usable_journal(
    tiny_model_dir, annotated, whole, tmp_path
):
    config, out = make_config(tiny_model_dir, annotated), tmp_path / "synthetic.jsonl"
    # The kernel refuses to let a file grow beyond this, as a full disk does.
    process = start(config, out, largest_file=whole.stat().st_size // 2)
    _, told = process.communicate()
    assert process.returncode == 1
    assert "refused:" in told
    assert "cannot be written" in told
    assert "same command continues" in told
    assert not out.exists()
    kept = journal_path(out).read_bytes()
    assert kept.count(b"\n") > 8
    run(config, out)
    assert out.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_batch_size_order_and_company_change_no_response(
    tiny_model_dir, annotated, whole, tmp_path, batch_size
):
    expected = {made.id: made for made in read_records(whole, Response)}
    config = make_config(tiny_model_dir, annotated, batch_size=batch_size)
    shuffled = tmp_path / "shuffled.jsonl"
    records = list(read_records(annotated, AnnotatedRecord))
    write_records(shuffled, records[::-1][1::2])  # Half of them, in another order.
    run(config, tmp_path / "all.jsonl")
    run(config, tmp_path / "half.jsonl", annotated=shuffled)
    assert (tmp_path / "all.jsonl").read_bytes() == whole.read_bytes()
    half = list(read_records(tmp_path / "half.jsonl", Response))
    assert [made.id for made in half] == [record.id for record in records[::-1][1::2]]
    assert all(made == expected[made.id] for made in half)


def test_manifest_says_what_the_responses_were_made_from(tiny_model_dir, annotated, whole):
    manifest = read_manifest(whole)
    assert manifest is not None
    responses = list(read_records(whole, Response))
    assert manifest.kind == "responses"
    assert manifest.inputs == {"annotated": content_hash(annotated)}
    assert manifest.model == content_hash(tiny_model_dir)
    assert (manifest.engine, manifest.seed, manifest.iteration) == ("transformers", 3, 1)
    assert manifest.parameters["temperature"] == 1.0
    assert manifest.parameters["max_new_tokens"] == 48
    assert manifest.counts == {
        "records": 41,
        "stop": sum(made.finish_reason == "stop" for made in responses),
        "length": sum(made.finish_reason == "length" for made in responses),
        "empty": sum(made.response == "" for made in responses),
        # A random model emits all kinds of tokens.
        "special_tokens": sum(made.special_tokens > 0 for made in responses),
    }
    names = ("<unk>", "<s>", "<pad>")
    for made in responses:
        assert sum(made.response.count(name) for name in names) == made.special_tokens
    assert len({made.seed for made in responses}) == 41


def test_current_output_is_left_alone_and_any_change_makes_it_again(
    tiny_model_dir, annotated, tmp_path
):
    out = tmp_path / "synthetic.jsonl"
    config = make_config(tiny_model_dir, annotated, max_new_tokens=4, stop=("###",))
    first = run(config, out)
    stamp = out.stat().st_ino
    assert run(config, out) == first
    assert out.stat().st_ino == stamp
    before = out.read_bytes()
    other = make_config(tiny_model_dir, annotated, max_new_tokens=4, temperature=0.7)
    assert run(other, out).parameters["temperature"] == 0.7
    assert out.read_bytes() != before
    again = generate(config, model=str(tiny_model_dir), annotated=annotated, out=out, iteration=2)
    assert again.iteration == 2
    assert {made.seed for made in read_records(out, Response)}.isdisjoint(
        json.loads(line)["seed"] for line in before.splitlines()
    )


def test_another_precision_or_attention_makes_it_again(tiny_model_dir, annotated, tmp_path):
    out = tmp_path / "synthetic.jsonl"
    config = make_config(tiny_model_dir, annotated, max_new_tokens=4)

    def manifest_with(**settings):
        model = config.model.model_copy(update=settings)
        return run(config.model_copy(update={"model": model}), out)

    first = manifest_with()
    assert (first.engine, first.parameters["dtype"]) == ("transformers", "float32")
    stamp = out.stat().st_ino
    assert manifest_with(dtype="float32") == first  # What 'auto' comes to on a CPU.
    assert out.stat().st_ino == stamp
    assert manifest_with(dtype="bfloat16").parameters["dtype"] == "bfloat16"
    assert out.stat().st_ino != stamp
    stamp = out.stat().st_ino
    eager = manifest_with(dtype="bfloat16", attn_implementation="eager")
    assert eager.parameters["attn_implementation"] == "eager"
    assert out.stat().st_ino != stamp


def test_responses_of_an_earlier_release_stay(tiny_model_dir, annotated, tmp_path):
    """Their manifests name no precision."""
    out = tmp_path / "synthetic.jsonl"
    config = make_config(tiny_model_dir, annotated, max_new_tokens=4)
    run(config, out)
    older = json.loads(manifest_path(out).read_bytes())
    del older["parameters"]["dtype"], older["parameters"]["attn_implementation"]
    manifest_path(out).write_text(json.dumps(older))
    stamp = out.stat().st_ino
    assert "dtype" not in run(config, out).parameters
    assert out.stat().st_ino == stamp


def test_prompts_must_fit_the_models_context_too(tiny_model_dir, annotated, tmp_path):
    roomy = PromptConfig(max_length=2048)
    config = make_config(tiny_model_dir, annotated, prompt=roomy, max_new_tokens=226)
    out = tmp_path / "synthetic.jsonl"
    # The model has 256 positions: 30 are left for a prompt.
    with pytest.raises(InputError, match=r"record 'record-\d+': its prompt has \d+ tokens.* 30 "):
        run(config, out)
    drop = PromptConfig(max_length=2048, over_long="drop")
    manifest = run(config.model_copy(update={"prompt": drop}), out)
    dropped = set(manifest.dropped_ids["over_long"])
    assert 0 < len(dropped) < 41
    assert manifest.counts["records"] == 41 - len(dropped)
    kept = {made.id: made.prompt_tokens for made in read_records(out, Response)}
    assert not dropped & kept.keys()
    assert max(kept.values()) <= 30


@pytest.mark.parametrize("architecture", ["qwen2", "gpt2"])
def test_other_architectures(architecture, tiny_tokenizer, annotated, tmp_path):
    size = len(tiny_tokenizer)
    torch.manual_seed(0)
    if architecture == "gpt2":
        shape = GPT2Config(vocab_size=size, n_embd=32, n_layer=2, n_head=4, n_positions=256)
        shape.initializer_range = 0.2
    else:
        shape = Qwen2Config(
            vocab_size=size,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=256,
            initializer_range=0.2,
        )
    folder = tmp_path / "model"
    AutoModelForCausalLM.from_config(shape).save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    outputs = []
    for batch_size in (1, 7):
        out = tmp_path / f"{batch_size}.jsonl"
        run(make_config(folder, annotated, batch_size=batch_size, max_new_tokens=16), out)
        outputs.append(out.read_bytes())
    assert outputs[0] == outputs[1]
    assert len({made.response for made in read_records(out, Response)}) > 30


def test_fake_engine_runs_the_whole_step(tiny_model_dir, annotated, tmp_path):
    config = make_config(tiny_model_dir, annotated, engine="fake")
    manifest = run(config, tmp_path / "synthetic.jsonl")
    assert manifest.engine == "fake"
    assert manifest.counts["records"] == 41


def test_missing_inputs_are_named(tiny_model_dir, annotated, tmp_path):
    config = make_config(tiny_model_dir, annotated)
    with pytest.raises(InputError, match=r"absent.*no such file"):
        run(config, tmp_path / "out.jsonl", annotated=tmp_path / "absent.jsonl")
    with pytest.raises(InputError, match="no such folder"):
        generate(
            config,
            model=str(tmp_path / "absent"),
            annotated=annotated,
            out=tmp_path / "out.jsonl",
            iteration=0,
        )
    assert list(tmp_path.iterdir()) == []
