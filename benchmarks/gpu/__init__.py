"""Everything that only a GPU can show, in one run with a time limit: benchmarks/gpu.sh."""
