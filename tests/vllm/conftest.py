"""One vLLM engine for the whole session: a LoRA adapter on its base, in two copies."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from vllm_setup import QUICK, Served, alive, engine_processes, make_config

from tspin.config import LoraConfig
from tspin.engines import open_engine
from tspin.engines.choice import find_vllm
from tspin.engines.vllm import VllmEngine
from tspin.models.policy import load_policy, load_tokenizer, save_policy
from tspin.tokens.prompts import PromptTemplate


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = find_vllm() is None
    if missing and os.environ.get("TSPIN_REQUIRE_VLLM"):
        pytest.exit("TSPIN_REQUIRE_VLLM is set and vLLM is not installed", returncode=1)
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("vllm")
            if missing:
                item.add_marker(pytest.mark.skip(reason="vLLM is not installed: make test-vllm"))


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: PreTrainedTokenizerFast) -> Path:
    """A tiny random Llama with heads as wide as vLLM's attention on CPUs needs them."""
    folder = tmp_path_factory.mktemp("base")
    config = LlamaConfig(
        vocab_size=len(tiny_tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        initializer_range=0.2,
        bos_token_id=tiny_tokenizer.bos_token_id,
        eos_token_id=tiny_tokenizer.eos_token_id,
        pad_token_id=tiny_tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter that changes what the base answers."""
    folder = tmp_path_factory.mktemp("adapter") / "model"
    config = make_config(base).model
    device = torch.device("cpu")
    policy = load_policy(
        str(base), config, device=device, trainable=True, lora=LoraConfig(r=2, alpha=4)
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    save_policy(policy, load_tokenizer(str(base), config), folder)
    return folder


@pytest.fixture(scope="session")
def template(tiny_tokenizer: PreTrainedTokenizerFast) -> PromptTemplate:
    return PromptTemplate.load(tiny_tokenizer, "auto")


@pytest.fixture(scope="session")
def served(base: Path, adapter: Path, template: PromptTemplate) -> Iterator[Served]:
    arguments = {**QUICK, "data_parallel_size": 2, "kv_cache_memory_bytes": 2**28}
    config = make_config(base, generate={"engine_args": arguments, "stop": ["never in there"]})
    adapted = open_engine(config, str(adapter), template)
    assert isinstance(adapted, VllmEngine)
    plain = copy.copy(adapted)
    plain._lora = None  # The same processes serve the base when no adapter is asked for.
    yield Served(plain, adapted)
    processes = engine_processes(psutil.Process())
    assert len(processes) >= 2
    adapted.close()
    assert not [process for process in processes if alive(process)]
