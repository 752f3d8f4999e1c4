"""Where and how this process computes."""

from __future__ import annotations

import torch

from tspin.models.device import denormals_flushed


def test_denormal_numbers_are_0_inside_the_block_alone() -> None:
    tiny = torch.full((4,), 1e-38)  # Its tenth is denormal in float32.
    with denormals_flushed():
        assert (tiny / 10 == 0).all()
    assert (tiny / 10 > 0).all()
