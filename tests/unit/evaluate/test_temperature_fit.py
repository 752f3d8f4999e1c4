"""The fitted temperature against a factor that is known, and against plain dense computations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from tiny_models import VOCABULARY, llama
from torch import Tensor
from transformers import LlamaForCausalLM

from tspin.evaluate.temperature_fit import Numbers, TemperatureFit, fit_temperature
from tspin.forward.responses import ResponsePasses
from tspin.forward.tempered import tempered_nll

RECORDS = 40
Pairs = list[tuple[list[int], list[int]]]


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    """Responses that a random model itself has sampled at temperature 1."""
    model, generator = llama().double().eval(), torch.Generator().manual_seed(5)
    lengths = torch.randint(4, 14, (RECORDS,), generator=generator).tolist()
    prompts = torch.randint(3, VOCABULARY, (RECORDS, 4), generator=generator)
    ids = prompts
    with torch.no_grad():
        for _ in range(max(lengths)):
            chances = model(ids).logits[:, -1].softmax(-1)
            ids = torch.cat([ids, torch.multinomial(chances, 1, generator=generator)], dim=1)
    rows = ids[:, 4:].tolist()
    return [(p, row[:n]) for p, row, n in zip(prompts.tolist(), rows, lengths, strict=True)]


def sharpened(factor: float, dtype: torch.dtype = torch.float64) -> LlamaForCausalLM:
    model = llama()
    with torch.no_grad():
        model.lm_head.weight.mul_(factor)
    return model.to(dtype).eval()


def passes_of(model: LlamaForCausalLM, pairs: Pairs, *, budget: int = 400) -> ResponsePasses:
    return ResponsePasses(model, pairs, pad_token_id=0, tokens_per_device=budget, chunk_size=7)


def measured(passes: ResponsePasses, inverses: Sequence[float]) -> Numbers:
    sums = passes.sums(tempered_nll(inverses), label="test")
    return sums.double().reshape(len(sums), len(inverses), 3).numpy()


def fitted(model: LlamaForCausalLM, pairs: Pairs, *, budget: int = 400) -> TemperatureFit:
    passes = passes_of(model, pairs, budget=budget)
    half = np.arange(len(pairs)) % 3 == 0
    return fit_temperature(lambda b: measured(passes, b.tolist()), half, confidence=0.95)


def dense_nll(model: LlamaForCausalLM, pairs: Pairs, inverse: float) -> Tensor:
    """Record by record, from the whole logits in float64."""
    found = []
    for prompt, response in pairs:
        with torch.no_grad():
            logits = model(torch.tensor([[*prompt, *response]])).logits[0].double()
        logps = (logits[len(prompt) - 1 : -1] * inverse).log_softmax(-1)
        found.append(-logps.gather(-1, torch.tensor(response)[:, None]).sum())
    return torch.stack(found)


@pytest.mark.parametrize("factor", [0.4, 1.0, 3.0])
def test_the_temperature_is_the_factor_that_logits_were_sharpened_by(
    factor: float, pairs: Pairs
) -> None:
    model = sharpened(factor)
    found = fitted(model, pairs)
    estimate = found.temperature
    assert estimate.low is not None
    assert estimate.high is not None
    assert estimate.low < factor < estimate.high
    assert estimate.value == pytest.approx(factor, rel=0.1)
    at_one, at_fitted = (float(dense_nll(model, pairs, b).sum()) for b in (1, 1 / estimate.value))
    assert at_fitted <= at_one
    if factor != 1:  # Even where each record is measured at a temperature fitted without it.
        assert found.nll.sum() < at_one


def test_a_fit_agrees_with_a_dense_one_of_a_library(pairs: Pairs) -> None:
    """On the whole, on each half, and in what is measured on the other half; in float32."""
    model = sharpened(3.0, torch.float32)
    found = fitted(model, pairs)
    half = np.arange(len(pairs)) % 3 == 0
    dense = {}
    for name, members in {"all": half | True, "first": half, "second": ~half}.items():
        chosen = [pair for pair, member in zip(pairs, members, strict=True) if member]
        best = minimize_scalar(
            lambda b, chosen=chosen: float(dense_nll(model, chosen, b).sum()),
            bounds=(0.05, 5),
            method="bounded",
            options={"xatol": 1e-9},
        )
        dense[name] = 1 / best.x
    values = (found.temperature.value, *found.halves)
    assert values == pytest.approx(list(dense.values()), rel=2e-6)
    first, second = (dense_nll(model, pairs, 1 / each).numpy() for each in found.halves)
    crossed = np.where(half, second, first)
    tokens = sum(len(response) for _, response in pairs)
    assert found.nll.sum() / tokens == pytest.approx(crossed.sum() / tokens, abs=1e-6)


def test_derivatives_are_those_of_the_dense_objective(pairs: Pairs) -> None:
    model = sharpened(2.0)
    inverses = (0.3, 1.0)
    found = measured(passes_of(model, pairs), inverses)
    step = 1e-4
    for at, inverse in enumerate(inverses):
        below, here, above = (
            dense_nll(model, pairs, inverse + move).numpy() for move in (-step, 0, step)
        )
        np.testing.assert_allclose(found[:, at, 0], here, rtol=1e-10)
        np.testing.assert_allclose(found[:, at, 1], (above - below) / (2 * step), rtol=1e-5)
        np.testing.assert_allclose(
            found[:, at, 2], (above - 2 * here + below) / step**2, rtol=1e-4, atol=1e-4
        )


def test_batches_and_packing_change_nothing(pairs: Pairs) -> None:
    plain = sharpened(3.0)
    plain.config._attn_implementation = "eager"  # Rounds to float32, so that it is not packed.
    found = [fitted(sharpened(3.0), pairs, budget=budget) for budget in (40, 400)]
    found += [fitted(plain, pairs)]
    for each in found[1:]:
        assert each.temperature.value == pytest.approx(found[0].temperature.value, rel=1e-5)
        np.testing.assert_allclose(each.nll, found[0].nll, rtol=1e-5)


def test_tokens_that_must_not_appear_do_no_harm(pairs: Pairs) -> None:
    logits = torch.randn(5, 9, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([0, 1, 2, 3, 4])
    hidden = torch.full((5, 3), float("-inf"))
    lowest = torch.full((5, 3), torch.finfo(torch.float32).min)
    scores = tempered_nll([0.05, 1.0, 20.0])
    for masked in (hidden, lowest):
        wide = torch.cat([logits, masked], dim=1)
        torch.testing.assert_close(scores(wide, targets), scores(logits, targets))


def test_a_temperature_beyond_the_limits_has_no_interval() -> None:
    """Targets that are always the likeliest: the colder the likelier."""
    logits = torch.randn(40, 9, generator=torch.Generator().manual_seed(0))
    for targets, limit in ((logits.argmax(-1), 0.05), (logits.argmin(-1), 20.0)):

        def measure(inverses: Numbers, targets: Tensor = targets) -> Numbers:
            scores = tempered_nll(inverses.tolist())(logits, targets)
            return scores.reshape(40, len(inverses), 3).double().numpy()

        found = fit_temperature(measure, np.arange(40) < 20, confidence=0.95)
        assert found.temperature.value == pytest.approx(limit)
        assert (found.temperature.low, found.temperature.high) == (None, None)
