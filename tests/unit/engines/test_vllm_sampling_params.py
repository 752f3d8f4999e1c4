"""What vLLM is asked for; the engine itself has tests of its own, where it is installed."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from tspin.engines import GenerationRequest, SamplingParams
from tspin.engines.vllm import _vllm_sampling
from tspin.tokens.prompts import PromptTemplate


@pytest.fixture
def named_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The names that are imported, where vLLM is not installed."""
    parameters = ModuleType("vllm.sampling_params")
    parameters.__dict__["RequestOutputKind"] = SimpleNamespace(FINAL_ONLY="final only")
    package = ModuleType("vllm")
    package.__dict__["SamplingParams"] = lambda **arguments: arguments
    monkeypatch.setitem(sys.modules, "vllm", package)
    monkeypatch.setitem(sys.modules, "vllm.sampling_params", parameters)


@pytest.mark.usefixtures("named_only")
@pytest.mark.parametrize("stop", [(), ("<s>",)])
def test_it_stops_where_the_other_engines_do(
    tiny_tokenizer: PreTrainedTokenizerFast, stop: tuple[str, ...]
) -> None:
    template = PromptTemplate.load(tiny_tokenizer, "auto", generation=[2, 3, 40])
    sampling = SamplingParams(temperature=1.0, top_p=1.0, max_new_tokens=8, stop=stop)
    asked: Any = _vllm_sampling(GenerationRequest("r", (1,), seed=5), sampling, template)
    assert asked["stop_token_ids"] == [2, 3, 40]
    assert asked["ignore_eos"]  # There are no others.
    # Stop strings are looked for in the text that becomes the response: with special tokens.
    assert asked["stop"] == list(stop) and asked["detokenize"] is bool(stop)
    assert not asked["skip_special_tokens"] and not asked["spaces_between_special_tokens"]
