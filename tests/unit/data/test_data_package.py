"""The package loads fast: nothing heavy comes with it."""

from __future__ import annotations

import os
import subprocess
import sys


def test_the_data_package_loads_neither_torch_nor_pyarrow() -> None:
    code = (
        "import sys, tspin.data; "
        "print([m for m in ('torch', 'pyarrow', 'numpy', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ)
    )
    assert done.stdout.strip() == "[]", done.stderr
