"""`python -m benchmarks.gpu`, which benchmarks/gpu.sh starts."""

import typer

from benchmarks.gpu.command import run

if __name__ == "__main__":
    typer.run(run)
