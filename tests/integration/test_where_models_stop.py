"""What is trained here ends its turns in anybody's hands: full weights, adapters, merged ones."""

from __future__ import annotations

import json
from pathlib import Path

import peft
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedModel
from typer.testing import CliRunner

from tests.conftest import TokenizerFactory, save_tiny_model
from tspin.cli.main import app
from tspin.config import ModelConfig, PromptConfig
from tspin.harness.models import policy_model
from tspin.records.manifest import manifest_path
from tspin.records.records import AnnotatedRecord, Message, write_records
from tspin.tokens.loading import load_template

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SETTINGS = {"do_sample": False, "temperature": 0.7, "repetition_penalty": 1.0}
ANSWER = "A city is Paris."
LEARNT = "method: sft, optimizer: adamw, learning_rate: 1.0e-2, epochs: 40, global_batch_size: 1"
"""The answer, by heart."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, tokenizer_factory: TokenizerFactory) -> Path:
    """A base model as many are: its template ends turns with a token that is not its eos."""
    tokenizer = tokenizer_factory(
        chat_template=CHATML, special=("<|im_start|>", "<|im_end|>"), bos=False
    )
    folder = save_tiny_model(tmp_path_factory.mktemp("base") / "base", tokenizer)
    settings = SETTINGS | {"eos_token_id": tokenizer.eos_token_id}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    return folder


def run(base: Path, folder: Path, train: str) -> Path:
    question = Message(role="user", content="Name a city.")
    data = folder / "annotated.jsonl"
    write_records(data, [AnnotatedRecord(id="a", messages=[question], response=ANSWER)])
    (folder / "run.yaml").write_text(
        f"run_dir: {folder / 'run'}\niterations: 1\nmodel: {{path: {base}}}\n"
        f"data: {{annotated: {data}}}\nprompt: {{max_length: 128}}\n"
        f"generate: {{max_new_tokens: 16}}\ntrain: {{{train}}}\nsystem: {{device: cpu}}\n"
    )
    invoke("run", "--config", folder / "run.yaml")
    return folder / "run"


def invoke(*arguments: object) -> None:
    result = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output


@pytest.fixture(scope="module")
def full(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(base, tmp_path_factory.mktemp("full"), LEARNT)


@pytest.fixture(scope="module")
def adapted(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(base, tmp_path_factory.mktemp("adapted"), f"{LEARNT}, lora: {{r: 32, alpha: 32}}")


def answer(folder: Path, model: PreTrainedModel) -> str:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    question = [{"role": "user", "content": "Name a city."}]
    ids = tokenizer.apply_chat_template(
        question, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    tokens = model.eval().generate(**ids, max_new_tokens=24)[0, ids["input_ids"].shape[1] :]
    return str(tokenizer.decode(tokens))


def says_where_it_stops(folder: Path, base: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    ends = tokenizer.convert_tokens_to_ids(["</s>", "<|im_end|>"])
    settings = json.loads((folder / "generation_config.json").read_text())
    assert settings == SETTINGS | {"eos_token_id": ends}
    assert AutoTokenizer.from_pretrained(folder).eos_token == "<|im_end|>"


def test_full_weights_stop_in_transformers(base: Path, full: Path, tmp_path: Path) -> None:
    out = tmp_path / "exported"
    invoke("export", full, "--out", out, "--iteration", 0)
    for folder in (full / "iter-0/model", out):
        says_where_it_stops(folder, base)
        model = AutoModelForCausalLM.from_pretrained(folder)
        assert answer(folder, model) == f"{ANSWER}<|im_end|>"
    assert "`</s>` or `<|im_end|>`" in (out / "README.md").read_text()


def test_a_task_is_answered_up_to_the_end(base: Path, full: Path, tmp_path: Path) -> None:
    """Also by a policy whose own settings say less, as those of a run's initial policy may."""
    instance = pytest.importorskip("lm_eval.api.instance").Instance
    folder = full / "iter-0/model"
    tokenizer = AutoTokenizer.from_pretrained(base)
    policy = AutoModelForCausalLM.from_pretrained(folder).eval()
    policy.generation_config = GenerationConfig.from_pretrained(base)
    question = [{"role": "user", "content": "Name a city."}]
    text = tokenizer.apply_chat_template(question, add_generation_prompt=True, tokenize=False)
    asked = instance("generate_until", {}, (text, {"until": ["never"], "max_gen_toks": 24}), 0)
    ends = GenerationConfig.from_pretrained(folder).eos_token_id
    # The harness leaves special tokens out, so that an end in the middle shows best what ends it.
    for more, told in (([], ANSWER), (tokenizer.convert_tokens_to_ids(["Ġis"]), "A city is")):
        model = policy_model(policy, tokenizer, ends=[*ends, *more], max_length=256, batch_size=1)
        assert model.generate_until([asked], disable_tqdm=True) == [told]


def test_an_export_says_what_an_older_model_does_not(
    base: Path, full: Path, tmp_path: Path
) -> None:
    """As releases before 0.3 wrote it."""
    model, out = full / "iter-0/model", tmp_path / "exported"
    kept = {name: (model / name).read_bytes() for name in ("generation_config.json",)}
    try:
        (model / "generation_config.json").write_bytes(
            (base / "generation_config.json").read_bytes()
        )
        invoke("export", full, "--out", out, "--iteration", 0)
    finally:
        for name, content in kept.items():
            (model / name).write_bytes(content)
    says_where_it_stops(out, base)
    settings = "generation_config.json"
    assert (out / settings).read_bytes() != (base / settings).read_bytes()


def test_an_adapter_says_where_it_stops_and_stops_there_merged(
    base: Path, adapted: Path, tmp_path: Path
) -> None:
    out, merged = tmp_path / "exported", tmp_path / "merged"
    invoke("export", adapted, "--out", out, "--iteration", 0)
    invoke("export", adapted, "--out", merged, "--iteration", 0, "--merge")
    for folder in (adapted / "iter-0/model", out, merged):
        says_where_it_stops(folder, base)
    assert answer(merged, AutoModelForCausalLM.from_pretrained(merged)) == f"{ANSWER}<|im_end|>"
    # As the card says: of itself peft reads the settings of the base.
    assert "GenerationConfig.from_pretrained" in (out / "README.md").read_text()
    assert "`</s>` or `<|im_end|>`" in (out / "README.md").read_text()
    policy = peft.AutoPeftModelForCausalLM.from_pretrained(out)
    policy.generation_config = GenerationConfig.from_pretrained(out)
    assert answer(out, policy) == f"{ANSWER}<|im_end|>"


def test_an_adapter_is_exported_without_its_base(base: Path, adapted: Path, tmp_path: Path) -> None:
    away = base.with_name("away")
    base.rename(away)
    try:
        invoke("export", adapted, "--out", tmp_path / "out", "--iteration", 0)
    finally:
        away.rename(base)
    says_where_it_stops(tmp_path / "out", base)
    assert "`</s>` or `<|im_end|>`" in (tmp_path / "out/README.md").read_text()


def test_iterations_belong_together(base: Path, full: Path, tmp_path: Path) -> None:
    """The next iteration begins with a tokenizer whose eos is another, and with the same ids."""
    config = (full.parent / "run.yaml").read_text().replace("iterations: 1", "iterations: 2")
    config = config.replace("epochs: 40", "epochs: 2")
    path = tmp_path / "run.yaml"
    path.write_text(config.replace(str(full), str(tmp_path / "run")))
    invoke("run", "--config", path, "--set", "train.method=tspin")
    models = [tmp_path / f"run/iter-{iteration}/model" for iteration in range(2)]
    for model in models:
        says_where_it_stops(model, base)
    templates = [json.loads(manifest_path(m).read_bytes())["template"] for m in models]
    assert templates[0] == templates[1] is not None


def test_an_exported_template_writes_the_bos_that_training_saw(
    tokenizer_factory: TokenizerFactory, tmp_path: Path
) -> None:
    """A tokenizer puts it in front, and the template does not, as Zephyr's."""
    tokenizer = tokenizer_factory(
        chat_template=CHATML, special=("<|im_start|>", "<|im_end|>"), bos=True
    )
    base = save_tiny_model(tmp_path / "base", tokenizer)
    ended = run(base, tmp_path, "method: sft, epochs: 2, global_batch_size: 1")
    out = tmp_path / "exported"
    invoke("export", ended, "--out", out, "--iteration", 0)
    question = [Message(role="user", content="Name a city.")]
    asked = load_template(str(base), ModelConfig(path=str(base)), PromptConfig())
    trained = asked.prompt_ids(question)
    assert trained[0] == tokenizer.bos_token_id

    def rendered(folder: Path) -> list[int]:
        turns = [message.model_dump(include={"role", "content"}) for message in question]
        own = AutoTokenizer.from_pretrained(folder)
        ids = own.apply_chat_template(turns, add_generation_prompt=True, return_dict=True)
        return list(ids["input_ids"])

    assert rendered(ended / "iter-0/model") == trained[1:]
    assert rendered(out) == trained
    exported = load_template(str(out), ModelConfig(path=str(out)), PromptConfig())
    assert exported.prompt_ids(question) == trained
    assert (asked.unwritten_start, exported.unwritten_start) == ("<s>", "")
