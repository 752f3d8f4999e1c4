"""Where and how this process computes."""

from __future__ import annotations

import platform
import resource

import pytest
import torch

from tspin.models.device import denormals_flushed, freed_memory_kept


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


def faults_of_a_large_tensor() -> int:
    """Pages that the system makes for a tensor, when one of its size has just been freed."""
    torch.ones(1 << 24)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(1 << 24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="is about glibc's malloc")
def test_memory_that_was_freed_is_used_again_inside_the_block_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"):
        monkeypatch.delenv(name, raising=False)
    pages = (1 << 26) // resource.getpagesize()
    with freed_memory_kept():
        assert faults_of_a_large_tensor() < pages / 10
    # Where the system hands out huge pages there are few faults, but there are some.
    assert faults_of_a_large_tensor() > 16
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "65536")
    with freed_memory_kept():
        assert faults_of_a_large_tensor() > 16
