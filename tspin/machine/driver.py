"""The NVIDIA driver against the CUDA that torch was built for."""

from __future__ import annotations

import ctypes
from importlib.util import find_spec

from tspin.machine.check import Check

__all__ = ["check_driver", "driver_cuda"]

_LIBRARY = "libcuda.so.1"
_OLDEST = {12: 525, 13: 580}
"""The first driver that runs any release of a major version of CUDA (NVIDIA, CUDA Compatibility,
minor version compatibility)."""


def driver_cuda() -> tuple[int, int] | None:
    """The newest CUDA that this machine's driver runs, (13, 0); None where there is no driver."""
    try:
        driver = ctypes.CDLL(_LIBRARY)
    except OSError:
        return None
    version = ctypes.c_int()
    if driver.cuDriverGetVersion(ctypes.byref(version)) != 0:
        return None
    return version.value // 1000, version.value % 1000 // 10


def check_driver() -> Check:
    """Whether the driver runs what torch was built for; torch alone would find no GPU."""
    if find_spec("torch") is None:
        return Check("NVIDIA driver", "warn", "cannot tell: torch is not installed")
    import torch

    runs, built = driver_cuda(), torch.version.cuda
    if built is None:
        return Check("NVIDIA driver", "ok", "not needed: this torch computes on the CPU")
    if runs is None:
        return Check("NVIDIA driver", "ok", f"none here; torch is built for CUDA {built}")
    newest, major = f"{runs[0]}.{runs[1]}", int(built.partition(".")[0])
    if runs[0] >= major:
        return Check("NVIDIA driver", "ok", f"runs CUDA {newest}; torch is built for {built}")
    needed = f"driver {_OLDEST[major]} or newer" if major in _OLDEST else "a newer driver"
    return Check(
        "NVIDIA driver",
        "fail",
        f"runs CUDA {newest} at most; torch {torch.__version__} is built for CUDA {built}, which "
        f"needs {needed} on the node",
    )
