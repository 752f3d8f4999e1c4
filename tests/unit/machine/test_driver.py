"""A driver that answers as NVIDIA's library does, against a torch that was built for another."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from tspin.machine import driver
from tspin.machine.driver import check_driver, driver_cuda

SOURCE = "int cuDriverGetVersion(int *version) {{ *version = {version}; return {status}; }}"


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a test puts the driver's library."""
    path = tmp_path / "libcuda.so.1"
    monkeypatch.setattr(driver, "_LIBRARY", str(path))
    return path


def build(library: Path, version: int, status: int = 0) -> None:
    compiler = shutil.which("cc") or pytest.skip("needs a C compiler")
    source = SOURCE.format(version=version, status=status)
    command = [compiler, "-shared", "-x", "c", "-", "-o", str(library)]
    subprocess.run(command, input=source, text=True, check=True)


@pytest.mark.parametrize(
    ("version", "cuda", "status"),
    [(12080, "13.0", "fail"), (13000, "13.0", "ok"), (13000, "13.2", "ok"), (13000, "12.8", "ok")],
)
def test_the_driver_must_know_torchs_major_version(
    library: Path, monkeypatch: pytest.MonkeyPatch, version: int, cuda: str, status: str
) -> None:
    build(library, version)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    assert driver_cuda() == (version // 1000, version % 1000 // 10)
    check = check_driver()
    assert check.status == status
    assert cuda in check.detail
    assert ("driver 580 or newer" in check.detail) == (status == "fail")


def test_no_driver_is_no_fault(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert driver_cuda() is None
    assert (check_driver().status, check_driver().detail[:9]) == ("ok", "none here")
    build(library, 13000, status=999)
    assert driver_cuda() is None
