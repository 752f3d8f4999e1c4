"""What the machine has, as the kernel and torch say it."""

from __future__ import annotations

import os
from pathlib import Path

from tspin.machine.check import gib
from tspin.machine.hardware import Gpu, available_memory, check_disk, check_gpus

H100 = Gpu("H100", 80 * 2**30, 79 * 2**30, bfloat16=True)
T4 = Gpu("T4", 16 * 2**30, 15 * 2**30, bfloat16=False)


def test_gpus_are_described() -> None:
    assert check_gpus([H100]).detail == "H100, 79.0 GiB free of 80.0 GiB; bfloat16"
    assert check_gpus([T4]).status == "warn"


def test_memory_is_what_the_kernel_says() -> None:
    available, total = available_memory()
    assert 0 < available <= total <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    assert check_disk(tmp_path / "not" / "yet" / "there").status != "fail"
    (tmp_path / "file").write_text("")
    assert check_disk(tmp_path / "file" / "run").status == "fail"


def test_sizes_are_readable() -> None:
    assert [gib(size) for size in (2**20, 2**30, 1.25 * 2**40)] == [
        "1 MiB",
        "1.0 GiB",
        "1280.0 GiB",
    ]
