"""Where and how this process computes."""

from __future__ import annotations

import torch

from tspin.models.device import denormals_flushed


def test_denormal_numbers_are_0_inside_the_block_alone() -> None:
    tiny = torch.full((4,), 1e-38)  # Its tenth is denormal in float32.
    with denormals_flushed():
        assert (tiny / 10 == 0).all()
    assert (tiny / 10 > 0).all()


def test_where_denormal_numbers_were_0_before_they_still_are() -> None:
    tiny = torch.full((4,), 1e-38)
    with denormals_flushed():
        with denormals_flushed():
            pass
        assert (tiny / 10 == 0).all()
    assert (tiny / 10 > 0).all()
