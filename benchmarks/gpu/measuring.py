"""The process of one part: `python -m benchmarks.gpu.measuring NAME REQUEST OUT`.

A process for each: what one part does to the GPU, running out of memory or an illegal access, ends
with it.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.gpu.request import NotRunError, Request, keep
from benchmarks.training.quiet import quiet

__all__ = ["main"]


def main(name: str, request: str, out: str) -> int:
    """Measure one part and leave what it found, or what went wrong.

    Args:
        name: Of the part.
        request: As `Request.as_json` writes it.
        out: The JSON file to leave: `result`, and `error` or `reason` where there is one.

    Returns:
        The exit code.
    """
    left: dict[str, Any] = {"result": {}}

    def publish(result: Mapping[str, Any]) -> None:
        left["result"] = dict(result)
        keep(Path(out), left)

    quiet()
    try:
        module = importlib.import_module(f"benchmarks.gpu.parts.{name}")
        module.measure(Request.from_json(request), publish)
    except NotRunError as error:
        left["reason"] = str(error)
    except Exception as error:  # noqa: BLE001  # Whatever it is, it stands in the result.
        traceback.print_exc()
        left["error"] = f"{type(error).__name__}: {error}"
    keep(Path(out), left)
    return int("error" in left)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
