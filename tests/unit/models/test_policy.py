"""Loading and saving policies, full weights and adapters, and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import peft
import pytest
import torch
from peft import PeftModel
from policy_folders import CPU, config, logits, nudge, save_adapter
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from tspin.config import LoraConfig, ModelConfig, PromptConfig, SystemConfig
from tspin.engines.vllm_args import adapter_args
from tspin.errors import InputError
from tspin.models.folder import ModelFolder
from tspin.models.generation import end_ids, generation_settings
from tspin.models.policy import (
    load_policy,
    load_tokenizer,
    policy_identity,
    resolve_device,
    resolve_dtype,
    save_policy,
)
from tspin.records.manifest import content_hash
from tspin.tokens.loading import load_template


@pytest.fixture
def base(tiny_model_dir: Path) -> Path:
    return tiny_model_dir


@pytest.fixture
def adapter(base: Path, tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast) -> Path:
    return save_adapter(base, tmp_path / "adapter", tiny_tokenizer)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_full_weights_survive_and_give_equal_bytes(base: Path, tmp_path: Path) -> None:
    policy = load_policy(str(base), config(base), device=CPU, trainable=True)
    assert policy.training and all(p.requires_grad for p in policy.parameters())
    nudge(policy)
    save_policy(policy, load_tokenizer(str(base), config(base)), tmp_path / "a")
    again = load_policy(str(tmp_path / "a"), config(base), device=CPU, trainable=False)
    assert not again.training and not any(p.requires_grad for p in again.parameters())
    assert torch.equal(logits(again), logits(policy.eval()))
    save_policy(again, load_tokenizer(str(tmp_path / "a"), config(base)), tmp_path / "b")
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert (tmp_path / "a" / "model.safetensors").is_file()


def test_full_weights_do_not_wait_for_the_import_of_peft(base: Path, tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['peft'] = None\n"  # What the import system takes for absent.
        "from pathlib import Path\n"
        "import torch\n"
        "from tspin.config import ModelConfig\n"
        "from tspin.models.policy import load_policy, load_tokenizer, save_policy\n"
        "path, out = sys.argv[1:]\n"
        "config = ModelConfig(path=path)\n"
        "policy = load_policy(path, config, device=torch.device('cpu'), trainable=False)\n"
        "save_policy(policy, load_tokenizer(path, config), Path(out))\n"
    )
    subprocess.run([sys.executable, "-c", program, str(base), str(tmp_path / "b")], check=True)
    policy = load_policy(str(base), config(base), device=CPU, trainable=False)
    save_policy(policy, load_tokenizer(str(base), config(base)), tmp_path / "a")
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_trained_weights_are_float32_others_as_asked(base: Path) -> None:
    half = config(base, dtype="bfloat16")
    trained = load_policy(str(base), half, device=CPU, trainable=True)
    assert {p.dtype for p in trained.parameters()} == {torch.float32}
    fixed = load_policy(str(base), half, device=CPU, trainable=False)
    assert {p.dtype for p in fixed.parameters()} == {torch.bfloat16}
    adapted = load_policy(str(base), half, device=CPU, trainable=True, lora=LoraConfig(r=2))
    for parameter in adapted.parameters():
        assert parameter.dtype == (torch.float32 if parameter.requires_grad else torch.bfloat16)


def test_a_new_adapter_is_the_identity_and_depends_on_the_seed_only(base: Path) -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    lora = LoraConfig(r=2)
    one, same, other = (
        load_policy(str(base), config(base), device=CPU, trainable=True, lora=lora, seed=seed)
        for seed in (5, 5, 6)
    )
    assert torch.equal(torch.get_rng_state(), state)
    plain = load_policy(str(base), config(base), device=CPU, trainable=False)
    assert torch.equal(logits(one.eval()), logits(plain))
    weights = [dict(policy.named_parameters()) for policy in (one, same, other)]
    trained = [name for name, p in weights[0].items() if p.requires_grad]
    assert trained and all("lora_" in name for name in trained)
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in trained)
    assert not all(torch.equal(weights[0][name], weights[2][name]) for name in trained)


def test_an_adapter_folder_holds_the_adapter_only_and_loads_by_itself(
    base: Path, adapter: Path
) -> None:
    assert not (adapter / "model.safetensors").exists()
    assert all("lora_" in name for name in load_file(adapter / "adapter_model.safetensors"))
    plain = load_policy(str(base), config(base), device=CPU, trainable=False)
    # As the run's initial policy too: the base is found by what the adapter says.
    adapted = load_policy(str(adapter), config(adapter), device=CPU, trainable=False)
    assert not torch.allclose(logits(adapted), logits(plain), atol=1e-2)
    assert not any(p.requires_grad for p in adapted.parameters())


def test_training_goes_on_with_the_same_adapter(
    base: Path, adapter: Path, tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    fixed = load_policy(str(adapter), config(base), device=CPU, trainable=False)
    policy = load_policy(
        str(adapter), config(base), device=CPU, trainable=True, lora=LoraConfig(r=2)
    )
    assert isinstance(policy, PeftModel) and list(policy.peft_config) == ["default"]
    assert all(("lora_" in name) == p.requires_grad for name, p in policy.named_parameters())
    assert torch.equal(logits(policy.eval()), logits(fixed))
    save_policy(policy, tiny_tokenizer, tmp_path / "again")
    assert files(tmp_path / "again") == files(adapter)


def test_target_modules_are_written_in_order(adapter: Path) -> None:
    targets = json.loads((adapter / "adapter_config.json").read_text())["target_modules"]
    assert targets == sorted(targets) and len(targets) > 1


def test_a_moved_base_is_replaced_by_the_runs_initial_policy(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "elsewhere"
    before = load_policy(str(adapter), config(base), device=CPU, trainable=False)
    shutil.copytree(base, moved)
    point_to(adapter, "/nowhere/base")
    after = load_policy(str(adapter), config(moved), device=CPU, trainable=False)
    assert torch.equal(logits(after), logits(before))
    with pytest.raises(InputError, match="base model that this adapter names is not found"):
        load_policy(str(adapter), config(adapter), device=CPU, trainable=False)


def point_to(adapter: Path, place: str) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": place}))


def test_identity_follows_the_content(base: Path, adapter: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(base, copy)
    assert policy_identity(str(base), config(base)) == content_hash(base)
    assert policy_identity(str(copy), config(copy)) == policy_identity(str(base), config(base))
    identity = policy_identity(str(adapter), config(base))
    assert identity == f"{content_hash(adapter)}+{content_hash(base)}"
    point_to(adapter, str(copy))
    weights = load_file(copy / "model.safetensors")
    weights["model.norm.weight"] += 1
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    assert policy_identity(str(adapter), config(base)).split("+")[1] != content_hash(base)


def test_the_tokenizer_comes_from_the_folder_or_from_the_base(base: Path, adapter: Path) -> None:
    text = "How many apples are 12 and 34?"
    expected = load_tokenizer(str(base), config(base))(text).input_ids
    assert load_tokenizer(str(adapter), config(base))(text).input_ids == expected
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (adapter / name).unlink()
    assert load_tokenizer(str(adapter), config(base))(text).input_ids == expected


def test_a_save_that_fails_leaves_the_old_folder(
    base: Path, tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    policy = load_policy(str(base), config(base), device=CPU, trainable=False)
    save_policy(policy, tiny_tokenizer, tmp_path / "model")
    before = files(tmp_path / "model")
    with pytest.raises(AttributeError):
        save_policy(policy, None, tmp_path / "model")  # type: ignore[arg-type]
    assert files(tmp_path / "model") == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_greedy_sampling_settings_do_not_stop_the_saving(
    base: Path, tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    folder = tmp_path / "hub-like"
    shutil.copytree(base, folder)
    settings = {"do_sample": False, "temperature": 0.6, "top_p": 0.9, "eos_token_id": 2}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    own = generation_settings(ModelFolder(folder), config(folder))
    policy = load_policy(str(folder), config(folder), device=CPU, trainable=True)
    for ends, saved in (((2,), 2), ((1, 2, 9), [2, 1, 9])):
        save_policy(policy, tiny_tokenizer, tmp_path / "saved", generation=own, ends=ends)
        assert (tmp_path / "saved" / "model.safetensors").is_file()
        # Nothing else changes, or it would be sampled from otherwise.
        written = json.loads((tmp_path / "saved" / "generation_config.json").read_text())
        assert written == settings | {"eos_token_id": saved}


def test_an_adapter_says_where_it_stops_though_its_base_says_nothing(
    base: Path, tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    silent = tmp_path / "silent"
    shutil.copytree(base, silent)
    (silent / "generation_config.json").unlink()
    settings = config(silent)
    assert generation_settings(ModelFolder(silent), settings) is None
    lora = LoraConfig(r=2)
    policy = load_policy(str(silent), settings, device=CPU, trainable=True, lora=lora)
    save_policy(policy, tiny_tokenizer, tmp_path / "adapter", ends=(2, 5))
    assert end_ids(ModelFolder(tmp_path / "adapter"), settings) == (2, 5)
    (tmp_path / "adapter/generation_config.json").unlink()
    assert end_ids(ModelFolder(tmp_path / "adapter"), settings) == (2,)  # Of the base.


@pytest.mark.parametrize("modules", [None, ["embed_tokens", "lm_head"]])
def test_an_adapter_with_more_tokens_than_its_base(
    base: Path, tmp_path: Path, modules: list[str] | None
) -> None:
    """As peft saves it where tokens were added: with the embeddings of all of them."""
    tokenizer = load_tokenizer(str(base), config(base))
    tokenizer.add_tokens(["Paris", "Athens"])
    size = len(tokenizer)
    resized = AutoModelForCausalLM.from_pretrained(base)
    resized.resize_token_embeddings(size)
    shape = peft.LoraConfig(
        task_type="CAUSAL_LM", r=2, target_modules=["q_proj"], modules_to_save=modules
    )
    policy = peft.get_peft_model(resized, shape)
    nudge(policy)
    expected = logits(policy.eval())
    policy.save_pretrained(tmp_path / "adapter")
    tokenizer.save_pretrained(tmp_path / "adapter")

    adapter = config(tmp_path / "adapter")
    template = load_template(adapter.path, adapter, PromptConfig())
    assert size - 1 in template.response_ids("Athens")
    loaded = load_policy(adapter.path, adapter, device=CPU, trainable=True)
    assert torch.equal(logits(loaded.eval()), expected)
    save_policy(loaded, tokenizer, tmp_path / "again")
    again = load_policy(str(tmp_path / "again"), adapter, device=CPU, trainable=False)
    assert torch.equal(logits(again), expected)
    merged = again.merge_and_unload()
    assert merged.get_input_embeddings().weight.shape[0] == merged.config.vocab_size == size
    assert torch.allclose(logits(merged), expected, atol=1e-4)
    with pytest.raises(InputError, match="embeddings of its own, which vLLM does not serve"):
        adapter_args(ModelFolder(tmp_path / "again"))


def test_a_relative_base_is_looked_for_from_the_adapter(
    base: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = logits(load_policy(str(adapter), config(adapter), device=CPU, trainable=False))
    shutil.copytree(base, tmp_path / "models/base")
    moved = tmp_path / "models/adapter"
    shutil.copytree(adapter, moved)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    for place in ("../base", "./../base"):
        point_to(moved, place)
        policy = load_policy(str(moved), config(moved), device=CPU, trainable=False)
        assert torch.equal(logits(policy), expected)
    point_to(moved, "../nowhere")
    with pytest.raises(
        InputError, match=r"adapter_config\.json.*'\.\./nowhere'.*adapter/\.\./nowhere"
    ):
        load_policy(str(moved), config(moved), device=CPU, trainable=False)
    # In a run whose initial policy is known that one is taken.
    policy = load_policy(str(moved), config(base), device=CPU, trainable=False)
    assert torch.equal(logits(policy), expected)


def test_device_and_precision() -> None:
    assert resolve_device(SystemConfig(device="cpu")) == CPU
    if not torch.cuda.is_available():
        assert resolve_device(SystemConfig()) == CPU
        with pytest.raises(InputError, match=r"system\.device is 'cuda'"):
            resolve_device(SystemConfig(device="cuda"))
    assert resolve_dtype(ModelConfig(path="m"), CPU) == torch.float32
    assert resolve_dtype(ModelConfig(path="m", dtype="bfloat16"), CPU) == torch.bfloat16
