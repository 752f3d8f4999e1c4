"""How long a model's context is, and which models are no causal language models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import (
    BertConfig,
    BertLMHeadModel,
    GPT2Config,
    LlamaConfig,
    Phi3Config,
    PreTrainedConfig,
    Qwen2Config,
    T5Config,
)

from tspin.config import ModelConfig, PromptConfig
from tspin.errors import InputError
from tspin.models.configuration import context_length, token_limit
from tspin.models.folder import ModelFolder
from tspin.models.policy import load_policy, resolve_device
from tspin.models.pretrained import load_weights
from tspin.tokens.loading import load_template

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 512,
}
LONG = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}


def saved(folder: Path, own: PreTrainedConfig | dict[str, Any]) -> ModelConfig:
    folder.mkdir()
    values = own if isinstance(own, dict) else own.to_dict()
    (folder / "config.json").write_text(json.dumps(values))
    (folder / "model.safetensors").touch()
    return ModelConfig(path=str(folder))


def scaled(**changes: Any) -> dict[str, Any]:
    """As a config.json of today or of releases before names it."""
    return {"model_type": "qwen2", "max_position_embeddings": 1024, **changes}


@pytest.mark.parametrize(
    ("own", "length"),
    [
        (GPT2Config(), 1024),
        (GPT2Config(n_positions=256), 256),
        (Qwen2Config(max_position_embeddings=1024), 1024),
        (scaled(rope_parameters={"rope_theta": 1e4, **YARN}), 2048),
        (scaled(rope_scaling={"type": "yarn", **YARN}), 2048),
        (scaled(rope_scaling={"rope_type": "yarn", "factor": 4.0}), 4096),
        (scaled(rope_scaling={"rope_type": "dynamic", "factor": 2.0}), 2048),
        (scaled(rope_scaling={"type": "linear", "factor": 2.5}), 2560),
        (LlamaConfig(max_position_embeddings=4096, rope_scaling=LLAMA3), 4096),
        (
            Phi3Config(
                hidden_size=32,
                num_attention_heads=4,
                max_position_embeddings=4096,
                original_max_position_embeddings=512,
                rope_parameters={"rope_theta": 1e4, **LONG},
                pad_token_id=0,
            ),
            4096,
        ),
        ({"model_type": "mamba"}, None),
    ],
)
def test_the_context_is_as_long_as_vllm_takes_it_to_be(
    tmp_path: Path, own: PreTrainedConfig | dict[str, Any], length: int | None
) -> None:
    config = saved(tmp_path / "model", own)
    assert context_length(config.path, config) == length
    for asked in (100, 10**6):
        limit = token_limit(config.path, config, PromptConfig(max_length=asked))
        assert limit == min(asked, length or asked)


SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.mark.parametrize(
    ("own", "reason"),
    [
        (BertConfig(architectures=["BertForMaskedLM"], **SMALL), "BertForMaskedLM is an encoder"),
        ({"model_type": "modernbert"}, "modernbert is an encoder"),
        ({"model_type": "roberta"}, "is an encoder"),
        (T5Config(), "t5 has an encoder and a decoder"),
        ({"model_type": "bart"}, "has an encoder and a decoder"),
        ({"model_type": "gemma3_text", "use_bidirectional_attention": True}, "is an encoder"),
        ({"model_type": "vit"}, "vit is no language model"),
    ],
)
def test_what_does_not_write_from_left_to_right_is_refused(
    tmp_path: Path, own: PreTrainedConfig | dict[str, Any], reason: str
) -> None:
    config = saved(tmp_path / "model", own)
    with pytest.raises(InputError, match=f"model'.*{reason}.*; expected a causal"):
        load_template(config.path, config, PromptConfig())
    with pytest.raises(InputError, match=f"{reason}.*; expected a causal"):
        load_weights(ModelFolder(Path(config.path)), config, None)  # type: ignore[arg-type]


def test_an_encoder_that_was_made_a_decoder_is_one(tmp_path: Path) -> None:
    own = BertConfig(is_decoder=True, intermediate_size=16, **SMALL)
    BertLMHeadModel(own).save_pretrained(tmp_path / "model")
    config = ModelConfig(path=str(tmp_path / "model"))
    device = resolve_device(_cpu())
    assert load_policy(config.path, config, device=device, trainable=False) is not None


def _cpu() -> Any:
    from tspin.config import SystemConfig

    return SystemConfig(device="cpu")
