"""Where and how this process computes."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest
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


FAULTS = """
import resource, torch
from tspin.models.device import freed_memory_kept

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(1 << 24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

with freed_memory_kept():
    inside = [faults() for _ in range(8)]
print((1 << 26) // resource.getpagesize(), min(inside), faults())
"""
"""Pages of a tensor, and those that the system makes for it: inside the block, and after it.

In the block the first ones still make room in the heap.
"""


def faults(**environment: str) -> list[int]:
    # In a new interpreter: a thread that malloc has once refused something, as tests provoke it,
    # gets another arena, and large tensors have no place in that.
    known = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", FAULTS], env=known | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return [int(number) for number in done.stdout.split()]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="is about glibc's malloc")
def test_memory_that_was_freed_is_used_again_inside_the_block_alone() -> None:
    pages, inside, after = faults()
    assert inside < pages / 10
    # Where the system hands out huge pages there are few faults, but there are some.
    assert after > 16
    _, told, _ = faults(MALLOC_TRIM_THRESHOLD_="65536")
    assert told > 16
