"""Weights in four bits: what is quantised, that it can be trained, and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit, has_avx512bf16
from bitsandbytes.nn import Linear4bit
from policy_folders import CPU, config, logits, nudge
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, Qwen3MoeConfig, Qwen3MoeForCausalLM

from tests.tiny_models import llama
from tspin.config import LoraConfig, ModelConfig, RunConfig
from tspin.doctor import doctor_report
from tspin.errors import InputError
from tspin.forward.flops import PassFlops
from tspin.forward.passes import ForwardPasses, choose_passes, evaluating, on_device
from tspin.models.policy import Policy, load_policy, save_policy
from tspin.models.quantization import check_quantization
from tspin.tokens.packing import Prompted

LORA = LoraConfig(r=2)
PROMPTED: list[Prompted] = [
    (list(range(4, 10)), [list(range(10, 14)), list(range(20, 27))]),
    (list(range(30, 50)), [list(range(7, 19)), list(range(60, 75))]),
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: PreTrainedTokenizerFast) -> Path:
    """Of layers so wide that a CPU with AVX512-BF16 would repack them."""
    folder = tmp_path_factory.mktemp("base")
    sizes = {"vocab_size": len(tiny_tokenizer), "hidden_size": 64, "intermediate_size": 128}
    llama(**sizes, initializer_range=0.1).save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


def four_bits(base: Path, **changes: object) -> ModelConfig:
    return config(base, quantize="nf4", **changes)


def trained(settings: ModelConfig) -> Policy:
    """A policy whose adapter is no longer the identity, so that every layer has a gradient."""
    policy = load_policy(settings.path, settings, device=CPU, trainable=True, lora=LORA)
    nudge(policy)
    return policy


def layers_of(policy: nn.Module) -> dict[str, Linear4bit]:
    return {name: m for name, m in policy.named_modules() if isinstance(m, Linear4bit)}


def checked(policy: Policy) -> ForwardPasses:
    return choose_passes(policy, PROMPTED, pad_token_id=0, chunk_size=8, device=CPU)


def gradients(policy: Policy, *, packed: bool = False) -> dict[str, Tensor]:
    passes = ForwardPasses(0, packed=packed, chunk_size=8)
    policy.zero_grad()
    with passes.on(policy):
        logps, _ = passes.logps(policy, on_device(passes.batch(PROMPTED), CPU))
        (logps * torch.arange(1.0, 5.0)).sum().backward()
    return {n: p.grad for n, p in policy.named_parameters() if p.grad is not None}


def assert_alike(ours: dict[str, Tensor], theirs: dict[str, Tensor], tolerance: float) -> None:
    assert ours.keys() == theirs.keys()
    for name, gradient in ours.items():
        error = (gradient - theirs[name]).norm() / theirs[name].norm()
        assert float(error) < tolerance, (name, float(error))


def assert_near(ours: Tensor, theirs: Tensor) -> None:
    """Not equal, but of one model."""
    assert not torch.equal(ours, theirs)
    assert 0.9 < float(torch.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0)) < 1


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_layers_between_embeddings_and_head_are_quantised(base: Path, dtype: str) -> None:
    policy = load_policy(
        str(base), four_bits(base, dtype=dtype), device=CPU, trainable=True, lora=LORA
    )
    layers = layers_of(policy)
    assert len(layers) == 2 * 7  # Two layers of a Llama.
    for layer in layers.values():
        state = layer.weight.quant_state
        assert (state.quant_type, state.nested, state.blocksize) == ("nf4", True, 64)
        assert str(layer.compute_dtype) == str(layer.quant_storage) == f"torch.{dtype}"
    for name, parameter in policy.named_parameters():
        assert parameter.requires_grad == ("lora_" in name), name
        expected = "float32" if "lora_" in name else dtype
        assert str(parameter.dtype) == f"torch.{expected}", name


def test_the_adapter_starts_as_the_quantised_base(base: Path) -> None:
    asked = four_bits(base)
    plain = load_policy(str(base), asked, device=CPU, trainable=False)
    assert layers_of(plain) and not any(p.requires_grad for p in plain.parameters())
    adapted = load_policy(str(base), asked, device=CPU, trainable=True, lora=LORA).eval()
    assert torch.equal(logits(adapted), logits(plain))
    whole = load_policy(str(base), config(base), device=CPU, trainable=False)
    assert_near(logits(plain), logits(whole))


def test_gradients_after_the_self_check_are_those_of_a_policy_that_was_never_evaluated(
    base: Path,
) -> None:
    fresh = gradients(trained(four_bits(base)))
    policy = trained(four_bits(base))
    passes = checked(policy)  # In evaluation mode, as the reference pass is.
    assert (passes.packed, passes.head) == (True, "chunked")
    with evaluating(policy):
        policy(torch.arange(4, 20)[None])
    assert policy.training
    after = gradients(policy)
    assert_alike(after, fresh, 1e-6)
    assert_alike(gradients(policy, packed=True), fresh, 1e-3)


def test_gradients_are_those_of_the_dequantised_weights(base: Path) -> None:
    policy, whole = trained(four_bits(base)), trained(config(base))
    quantised = layers_of(policy)
    with torch.no_grad():
        for name, layer in whole.named_modules():
            if name in quantised:
                packed = quantised[name].weight
                layer.weight.copy_(dequantize_4bit(packed.data, packed.quant_state))
    checked(policy)
    assert_alike(gradients(policy), gradients(whole), 1e-4)


def test_the_path_that_has_no_gradients_is_off(base: Path) -> None:
    # What is turned off must be there: a release that calls it otherwise fails here.
    assert hasattr(Linear4bit(8, 8), "support_avx512bf16_for_cpu")
    policy = trained(four_bits(base))
    checked(policy)
    for layer in layers_of(policy).values():
        assert layer.support_avx512bf16_for_cpu is False
        assert not getattr(layer.weight.quant_state, "packing_format_for_cpu", False)


@pytest.mark.skipif(not has_avx512bf16(), reason="this CPU has no AVX512-BF16")
def test_with_that_path_on_gradients_are_wrong(base: Path) -> None:
    """What the two tests above look for: without it they would pass on any code."""
    fresh = gradients(trained(four_bits(base)))
    policy = trained(four_bits(base))
    for layer in layers_of(policy).values():
        layer.support_avx512bf16_for_cpu = True
    checked(policy)
    with pytest.raises(AssertionError):
        assert_alike(gradients(policy), fresh, 0.5)


def test_operations_count_weights_and_not_the_bytes_they_are_packed_in(base: Path) -> None:
    flops = [PassFlops.of_model(trained(each)) for each in (four_bits(base), config(base))]
    assert flops[0] == flops[1]


def test_a_saved_adapter_names_the_base_and_loads_on_either(
    base: Path, tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    policy = trained(four_bits(base)).eval()
    save_policy(policy, tiny_tokenizer, tmp_path)
    assert all("lora_" in name for name in load_file(tmp_path / "adapter_model.safetensors"))
    described = json.loads((tmp_path / "adapter_config.json").read_text())
    assert described["base_model_name_or_path"] == str(base)
    expected = logits(policy)
    same, whole = (
        load_policy(str(tmp_path), settings, device=CPU, trainable=False)
        for settings in (four_bits(base), config(base))
    )
    assert torch.equal(logits(same), expected)
    assert_near(logits(whole), expected)
    again = load_policy(str(tmp_path), four_bits(base), device=CPU, trainable=True, lora=LORA)
    assert torch.equal(logits(again.eval()), expected)


def test_what_cannot_be_quantised_or_trained_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"four bits cannot be trained: set train\.lora"):
        load_policy(str(base), four_bits(base), device=CPU, trainable=True)
    folder = shutil.copytree(base, tmp_path / "quantised")
    values = json.loads((folder / "config.json").read_text())
    values["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (folder / "config.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match="weights are quantised already"):
        load_policy(str(folder), four_bits(folder), device=CPU, trainable=False)


def test_experts_stay_as_they_are_and_a_warning_counts_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sizes = {"hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 32}
    experts = {"moe_intermediate_size": 32, "num_experts": 4, "num_experts_per_tok": 2}
    shape = Qwen3MoeConfig(vocab_size=97, num_hidden_layers=1, **sizes, **experts)
    Qwen3MoeForCausalLM(shape).save_pretrained(tmp_path)
    load_policy(str(tmp_path), four_bits(tmp_path), device=CPU, trainable=False)
    # Three matrices of each of four experts.
    assert f"{4 * 3 * 64 * 32} of its parameters are matrices of experts" in caplog.text


def test_without_the_package_the_extra_is_named(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("tspin.models.quantization.version", absent)
    check_quantization(config(base))
    told = r"'nf4', which needs bitsandbytes.*pip install 'tspin\[quantize\]'"
    with pytest.raises(InputError, match=told) as raised:
        load_policy(str(base), four_bits(base), device=CPU, trainable=False)
    assert raised.value.exit_code == 2
    (tmp_path / "a.jsonl").write_text('{"id": "1", "prompt": "q", "response": "a"}\n')
    run = RunConfig.model_validate(
        {
            "run_dir": str(tmp_path / "run"),
            "model": four_bits(base).model_dump(),
            "data": {"annotated": str(tmp_path / "a.jsonl")},
            "train": {"lora": {}},
        }
    )
    [check] = [each for each in doctor_report(run) if each.name == "model.quantize"]
    assert check.status == "fail" and "tspin[quantize]" in check.detail


def test_the_import_of_peft_leaves_the_level_of_a_logger_as_it_was() -> None:
    program = (
        "import logging, tspin.train.arguments; "
        "print(logging.getLogger('bitsandbytes.backends.cpu.ops').level)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert done.stdout.split() == ["0"]
    assert "kernels" not in done.stderr
