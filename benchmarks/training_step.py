"""Time and memory of a training step, beside TRL's DPOTrainer: python benchmarks/training_step.py.

With --help it says what can be measured; docs/reference/performance.md has what was found.
"""

import sys
from pathlib import Path

import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.training.command import run

if __name__ == "__main__":
    typer.run(run)
