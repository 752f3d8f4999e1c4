"""Response log-probabilities against their definition, and what they do to the model."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tiny_models import VOCABULARY, llama, make_batch, plain_logps
from torch import nn
from transformers import LlamaForCausalLM

from tspin.errors import TspinError
from tspin.forward.head import check_head
from tspin.forward.logprobs import response_logps


def test_counts_and_sums_by_hand() -> None:
    model = llama()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()  # Every token is as likely as any other.
    batch = make_batch()
    logps, counts = response_logps(model, batch, chunk_size=7)
    assert counts.tolist() == batch["response_mask"].sum(dim=1).tolist()
    assert torch.allclose(logps, -counts * math.log(VOCABULARY))


@pytest.mark.parametrize("chunk_size", [1, 7, 10_000])
@pytest.mark.parametrize("head", ["chunked", "model"])
def test_equals_the_definition_in_float64(chunk_size: int, head: Any) -> None:
    model = llama().double()
    batch = make_batch()
    weights = torch.arange(1.0, 7.0, dtype=torch.float64)
    (plain_logps(model, batch) * weights).sum().backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()

    logps, _ = response_logps(model, batch, chunk_size=chunk_size, head=head)
    (logps * weights).sum().backward()

    assert logps.dtype == torch.float64
    assert torch.allclose(logps, plain_logps(model, batch), rtol=0, atol=1e-10)
    for name, parameter in model.named_parameters():
        assert torch.allclose(parameter.grad, expected[name], rtol=1e-9, atol=1e-10), name


def test_what_stands_in_prompt_padding_and_other_rows_does_not_count() -> None:
    model = llama()
    batch = make_batch()
    before, _ = response_logps(model, batch, chunk_size=7)
    other = batch | {"input_ids": batch["input_ids"].clone()}
    other["input_ids"][batch["attention_mask"] == 0] = 3
    other["input_ids"][3:] = 5
    after, _ = response_logps(model, other, chunk_size=7)
    assert torch.allclose(before[:3], after[:3], atol=1e-5)
    assert not torch.allclose(before[3:], after[3:], atol=1e-1)


def test_rows_without_a_response_count_nothing() -> None:
    model = llama()
    batch = make_batch()
    batch["response_mask"] = torch.zeros_like(batch["response_mask"])
    logps, counts = response_logps(model, batch, chunk_size=7)
    logps.sum().backward()
    assert logps.tolist() == [0.0] * 6
    assert counts.tolist() == [0] * 6
    assert all(not parameter.grad.any() for parameter in model.parameters())


def test_dropout_is_the_same_in_the_recomputed_chunks() -> None:
    model = llama(attention_dropout=0.5).double().train()
    batch = make_batch()
    gradients = []
    for chunk_size in (3, 10_000):
        torch.manual_seed(5)
        model.zero_grad()
        response_logps(model, batch, chunk_size=chunk_size)[0].sum().backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, atol=1e-10)


def test_the_model_is_left_as_it_was() -> None:
    model = llama()
    logps, _ = response_logps(model, make_batch(), chunk_size=7)
    logps.sum().backward()
    assert "forward" not in vars(model) and "forward" not in vars(model.model)
    assert model(make_batch()["input_ids"]).logits.shape == (6, 20, VOCABULARY)


def test_a_forward_that_was_set_on_the_model_is_kept_and_used() -> None:
    # accelerate puts autocast around `forward` in this way.
    model = llama()
    own = model.forward
    calls = []

    def forward(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        with torch.autocast("cpu", torch.bfloat16):
            return own(*args, **kwargs)

    model.forward = forward  # type: ignore[method-assign]
    dtypes = set()
    model.lm_head.register_forward_hook(lambda _m, _i, output: dtypes.add(output.dtype))
    logps, _ = response_logps(model, make_batch(), chunk_size=7)
    logps.sum().backward()
    assert model.forward is forward
    assert calls
    assert dtypes == {torch.bfloat16}
    assert logps.dtype == torch.float32
    assert check_head(model, make_batch(), chunk_size=7)


def test_hooks_of_wrappers_run_around_all_of_the_work() -> None:
    model = llama()
    events: list[str] = []
    wrapper = Wrapper(model)
    wrapper.register_forward_pre_hook(lambda *_: events.append("in"))
    wrapper.register_forward_hook(lambda *_: events.append("out"))
    model.lm_head.register_forward_hook(lambda *_: events.append("head"))
    response_logps(wrapper, make_batch(), chunk_size=30)
    assert events[0] == "in" and events[-1] == "out" and events.count("in") == 1
    assert events.count("head") >= 2


class Wrapper(nn.Module):
    """As DDP does: holds the model and passes calls on."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)


class Scaled(LlamaForCausalLM):
    """Does something with the logits that no list of architectures knows."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = super().forward(*args, **kwargs)
        output.logits = 0.25 * output.logits + 1.0
        return output


class Scattered(LlamaForCausalLM):
    """Its logits depend on other positions: nothing that works on positions alone can be right."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = super().forward(*args, **kwargs)
        output.logits = output.logits + output.logits.mean(dim=1, keepdim=True)
        return output


class Hidden(LlamaForCausalLM):
    """Its backbone cannot be found."""

    def get_decoder(self) -> nn.Module:
        return nn.Identity()


def test_an_unknown_step_after_the_head_is_done_too() -> None:
    model = Scaled(llama().config).double()
    batch = make_batch()
    logps, _ = response_logps(model, batch, chunk_size=7)
    assert torch.allclose(logps, plain_logps(model, batch), rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", [Scattered, Hidden])
def test_a_head_that_cannot_be_chunked_is_found_out(kind: type[LlamaForCausalLM]) -> None:
    model = kind(llama().config).double().train()
    batch = make_batch()
    assert not check_head(model, batch, chunk_size=7)
    assert model.training
    logps, _ = response_logps(model, batch, chunk_size=7, head="model")
    assert torch.allclose(logps, plain_logps(model, batch), rtol=0, atol=1e-10)


def test_check_head_accepts_a_model_in_training_mode_with_dropout() -> None:
    model = llama(attention_dropout=0.5).train()
    assert check_head(model, make_batch(), chunk_size=7)
    assert model.training


def test_a_backbone_that_cannot_be_found_is_an_error_not_a_number() -> None:
    model = Hidden(llama().config)
    with pytest.raises(TspinError, match="head='model'"):
        response_logps(model, make_batch(), chunk_size=7)


def test_what_is_no_transformers_model_is_refused() -> None:
    with pytest.raises(TspinError, match="Linear holds no transformers model"):
        response_logps(nn.Linear(2, 2), make_batch(), chunk_size=7)
