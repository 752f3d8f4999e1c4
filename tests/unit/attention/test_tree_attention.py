"""Every way of computing tree attention, against a softmax over all scores that are allowed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tspin.attention.gpu import flex_attention, varlen_attention
from tspin.attention.interface import UnsupportedModelError, _tree_attention
from tspin.attention.kernels import attend, flash_attention, segment_attention
from tspin.attention.layout import TreeLayout

Lengths = list[tuple[int, list[int]]]

CPU = torch.device("cpu")
LENGTHS: Lengths = [(5, [4, 9, 2]), (1, [3]), (7, []), (2, [6, 1])]
SHAPES = {"even heads": (4, 4), "grouped heads": (4, 2), "one key head": (3, 1)}


def inputs(
    layout: TreeLayout, heads: tuple[int, int] = (4, 2), dtype: torch.dtype = torch.float64
) -> list[Tensor]:
    """Queries, keys, values, laid out as a model's projections leave them."""
    generator = torch.Generator().manual_seed(0)
    made = (
        torch.randn(1, layout.length, count, 8, generator=generator, dtype=torch.float64)
        for count in (heads[0], heads[1], heads[1])
    )
    return [x.to(dtype).requires_grad_().transpose(1, 2) for x in made]


def allowed(lengths: Lengths, window: int | None) -> Tensor:
    """Which token (row) sees which, from the definition: each sequence written out by itself."""
    total = sum(prompt + sum(responses) for prompt, responses in lengths)
    sees = torch.zeros(total, total, dtype=torch.bool)
    start = 0
    for prompt, responses in lengths:
        own = start + prompt
        for response in responses or [0]:
            sequence = [*range(start, start + prompt), *range(own, own + response)]
            for at, token in enumerate(sequence):
                first = 0 if window is None else max(0, at - window + 1)
                sees[token, sequence[first : at + 1]] = True
            own += response
        start = own
    return sees


def by_definition(q: Tensor, k: Tensor, v: Tensor, sees: Tensor, scale: float) -> Tensor:
    repeat = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1)
    scores = (q @ k.transpose(2, 3) * scale).masked_fill(~sees, -math.inf)
    return scores.softmax(-1) @ v


def results(compute: Callable[..., Tensor], given: list[Tensor]) -> list[Tensor]:
    """The output, and the gradients of a sum that weighs every number differently."""
    out = compute(*given)
    weights = torch.randn(
        out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    return [out, *torch.autograd.grad((out * weights).sum(), given)]


def assert_exact(
    kernel: Callable[..., Tensor], lengths: Lengths, heads: tuple[int, int], window: int | None
) -> None:
    layout = TreeLayout(lengths)
    given = inputs(layout, heads)
    sees = allowed(lengths, window)
    expected = results(lambda q, k, v: by_definition(q, k, v, sees, 0.3), given)
    for ours, theirs in zip(results(kernel, given), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def varlen_by_segments(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_queries: Tensor,
    cu_keys: Tensor,
    longest_queries: int,
    longest_keys: int,
    *,
    scale: float,
    window_size: tuple[int, int],
    enable_gqa: bool,
) -> Tensor:
    """What `torch.nn.attention.varlen.varlen_attn` computes on a GPU, by its documentation."""
    assert window_size[1] == 0
    assert cu_queries.dtype == cu_keys.dtype == torch.int32
    assert int(cu_queries.diff().max()) == longest_queries
    assert int(cu_keys.diff().max()) == longest_keys
    assert enable_gqa == (query.shape[1] != key.shape[1])
    parts = []
    for n in range(len(cu_queries) - 1):
        q = query[cu_queries[n] : cu_queries[n + 1]].transpose(0, 1)[None]
        k, v = (x[cu_keys[n] : cu_keys[n + 1]].transpose(0, 1)[None] for x in (key, value))
        # The last query sees the last key.
        at = torch.arange(q.shape[2])[:, None] + k.shape[2] - q.shape[2]
        distance = at - torch.arange(k.shape[2])
        sees = (distance >= 0) & ((window_size[0] < 0) | (distance <= window_size[0]))
        parts.append(by_definition(q, k, v, sees, scale)[0].transpose(0, 1))
    return torch.cat(parts)


@pytest.mark.parametrize("heads", SHAPES.values(), ids=SHAPES)
def test_flash(heads: tuple[int, int]) -> None:
    layout = TreeLayout(LENGTHS)
    assert_exact(lambda q, k, v: flash_attention(q, k, v, layout, scale=0.3), LENGTHS, heads, None)


@pytest.mark.parametrize("window", [None, 1, 4, 8])
@pytest.mark.parametrize("heads", SHAPES.values(), ids=SHAPES)
def test_segments(heads: tuple[int, int], window: int | None) -> None:
    layout = TreeLayout(LENGTHS)
    assert_exact(
        lambda q, k, v: segment_attention(q, k, v, layout, scale=0.3, window=window),
        LENGTHS,
        heads,
        window,
    )


@pytest.mark.parametrize("window", [None, 1, 4, 8])
@pytest.mark.parametrize("heads", SHAPES.values(), ids=SHAPES)
def test_what_variable_length_attention_is_given(
    heads: tuple[int, int], window: int | None
) -> None:
    layout = TreeLayout(LENGTHS)
    assert_exact(
        lambda q, k, v: varlen_attention(
            q, k, v, layout, scale=0.3, window=window, kernel=varlen_by_segments
        ),
        LENGTHS,
        heads,
        window,
    )


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("window", [None, 4])
def test_flex_attention(window: int | None) -> None:
    # torch computes its backward pass on a GPU only.
    layout = TreeLayout(LENGTHS)
    q, k, v = (x.detach() for x in inputs(layout))
    expected = by_definition(q, k, v, allowed(LENGTHS, window), 0.3)
    ours = flex_attention(q, k, v, layout, scale=0.3, window=window)
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-10)


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(1, 6), st.lists(st.integers(0, 6), max_size=3)), min_size=1),
    st.one_of(st.none(), st.integers(1, 14)),
)
def test_any_trees(lengths: Lengths, window: int | None) -> None:
    layout = TreeLayout(lengths)
    assert_exact(
        lambda q, k, v: attend(q, k, v, layout, scale=0.3, window=window), lengths, (4, 2), window
    )


def test_values_of_another_width_than_keys() -> None:
    layout = TreeLayout(LENGTHS)
    q, k, v = inputs(layout)
    wide = torch.cat([v, v], dim=-1)
    out = attend(q, k, wide, layout, scale=0.3, window=None)
    expected = by_definition(q, k, wide, allowed(LENGTHS, None), 0.3)
    torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-10)


def test_bfloat16_is_close() -> None:
    layout = TreeLayout(LENGTHS)
    given = inputs(layout, dtype=torch.bfloat16)
    exact = inputs(layout)
    ours = results(lambda q, k, v: attend(q, k, v, layout, scale=0.3, window=None).double(), given)
    theirs = results(lambda q, k, v: attend(q, k, v, layout, scale=0.3, window=None), exact)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=0.03, atol=0.03)


class Layer(nn.Module):
    is_causal = True


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"softcap": 30.0}, "softcap"),
        ({"s_aux": torch.zeros(4)}, "s_aux"),
        ({"position_bias": torch.zeros(1)}, "position_bias"),
        ({"something_new": 1}, "something_new"),
        ({"dropout": 0.1}, "dropout"),
        ({"is_causal": False}, "is_causal"),
        ({"attention_mask": torch.zeros(1, 1, 2, 2)}, "attention_mask"),
        ({"tree": None}, "not told which tokens"),
        ({"tree": TreeLayout([(9, [])])}, "something else than the row"),
    ],
)
def test_what_is_not_computed_is_refused(settings: dict[str, Any], named: str) -> None:
    layout = TreeLayout(LENGTHS)
    asked = {"attention_mask": None, "tree": layout, "softcap": None, "use_cache": False} | settings
    with pytest.raises(UnsupportedModelError, match=named):
        _tree_attention(Layer(), *inputs(layout), **asked)
    assert layout.calls == 0


def test_a_layer_gets_what_it_asked_for() -> None:
    layout = TreeLayout(LENGTHS)
    q, k, v = inputs(layout)
    out, weights = _tree_attention(
        Layer(), q, k, v, None, scaling=0.3, sliding_window=4, tree=layout, softcap=None
    )
    assert weights is None
    assert layout.calls == 1
    expected = by_definition(q, k, v, allowed(LENGTHS, 4), 0.3).transpose(1, 2)
    torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-10)


def test_layout() -> None:
    layout = TreeLayout([(2, [3, 0, 1]), (1, [])])
    assert layout.positions() == [0, 1, 2, 3, 4, 2, 0]
    assert (layout.length, layout.context) == (7, 5)
    varlen = layout.varlen(CPU)
    assert varlen.keys.tolist() == [0, 1, 0, 1, 2, 3, 4, 0, 1, 5, 6]
    assert varlen.cu_queries.tolist() == [0, 2, 5, 6, 7]
    assert varlen.cu_keys.tolist() == [0, 2, 7, 10, 11]
    assert [mark.tolist() for mark in layout.marks(CPU)] == [
        [0, 0, 0, 0, 0, 0, 1],
        [0, 0, 1, 1, 1, 2, 0],
        [0, 1, 2, 3, 4, 2, 0],
    ]
