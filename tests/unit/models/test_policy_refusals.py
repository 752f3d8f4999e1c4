"""Models that cannot be loaded, each refused with what is wrong, and the Hub when offline."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from policy_folders import CPU, config, logits, save_adapter
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerFast

from tspin.config import LoraConfig, ModelConfig
from tspin.errors import InputError
from tspin.models.policy import load_policy, load_tokenizer, policy_identity, save_policy


@pytest.fixture
def base(tiny_model_dir: Path) -> Path:
    return tiny_model_dir


@pytest.fixture
def adapter(base: Path, tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast) -> Path:
    return save_adapter(base, tmp_path / "adapter", tiny_tokenizer)


@pytest.fixture
def offline_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of a Hub that cannot be reached."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def without_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def damaged(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")


def incomplete(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def unknown(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "abacus"}')


def wider(folder: Path) -> None:
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {"intermediate_size": 65}))


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (without_weights, r"no \*\.safetensors weights$"),
        (pickled, "pytorch_model.bin is a pickle"),
        (without_config, "neither config.json nor adapter_config.json"),
        (damaged, "cannot be loaded"),
        (incomplete, "lack 1 weights .* model.layers.1.mlp.up_proj.weight"),
        (wider, "or have them in another shape"),
        (unknown, "config.json cannot be used: .*abacus"),
    ],
)
def test_a_folder_that_is_no_whole_model_is_refused(
    base: Path, tmp_path: Path, break_it: Callable[[Path], None], message: str
) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(base, folder)
    break_it(folder)
    with pytest.raises(InputError, match=f"(?s)broken.*{message}"):
        load_policy(str(folder), config(folder), device=CPU, trainable=False)


def test_a_folder_that_is_missing_is_refused(tmp_path: Path) -> None:
    for call in (
        lambda: load_policy(str(tmp_path / "no"), config(tmp_path), device=CPU, trainable=False),
        lambda: load_tokenizer("./no/such", config(tmp_path)),
        lambda: policy_identity("runs/x/model", config(tmp_path)),
    ):
        with pytest.raises(InputError, match="no such folder"):
            call()


@pytest.mark.usefixtures("offline_hub")
def test_a_hub_that_cannot_be_reached_is_an_input_error() -> None:
    hub = ModelConfig(path="some-one/model", revision="abc")
    with pytest.raises(InputError, match=r"'some-one/model' at revision 'abc'.*Hub"):
        load_policy("some-one/model", hub, device=CPU, trainable=False)


def test_a_hub_model_that_was_fetched_before_works_offline(
    base: Path, offline_hub: Path, tmp_path: Path
) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    cache = offline_hub / "models--some-one--model"
    shutil.copytree(base, cache / "snapshots" / commit)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(commit)
    hub = ModelConfig(path="some-one/model")
    assert policy_identity(hub.path, hub) == f"hub:some-one/model@{commit}"
    policy = load_policy(hub.path, hub, device=CPU, trainable=True, lora=LoraConfig(r=2))
    save_policy(policy, load_tokenizer(hub.path, hub), tmp_path / "adapter")
    # The adapter pins what it was trained on, and finds it whatever the run's initial policy is.
    values = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (values["base_model_name_or_path"], values["revision"]) == (hub.path, commit)
    again = load_policy(str(tmp_path / "adapter"), config(base), device=CPU, trainable=False)
    assert torch.equal(logits(again), logits(policy.eval()))


def test_lora_settings_that_do_not_fit_are_refused(base: Path, adapter: Path) -> None:
    wrong = LoraConfig(r=2, target_modules=("no_such_layer",))
    with pytest.raises(InputError, match=r"train.lora.target_modules is .*no_such_layer"):
        load_policy(str(base), config(base), device=CPU, trainable=True, lora=wrong)
    with pytest.raises(InputError, match=r"train\.lora\.r is 4, but the adapter in .* has 2"):
        load_policy(str(adapter), config(base), device=CPU, trainable=True, lora=LoraConfig(r=4))
    with pytest.raises(InputError, match="a new adapter is only made for training"):
        load_policy(str(base), config(base), device=CPU, trainable=False, lora=LoraConfig(r=2))


def test_an_adapter_that_lacks_weights_is_refused(base: Path, adapter: Path) -> None:
    path = adapter / "adapter_model.safetensors"
    weights = load_file(path)
    del weights[sorted(weights)[0]]
    save_file(weights, path)
    with pytest.raises(InputError, match="its adapter lacks weights"):
        load_policy(str(adapter), config(base), device=CPU, trainable=False)
