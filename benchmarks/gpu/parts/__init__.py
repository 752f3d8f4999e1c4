"""The parts of the GPU benchmark, each measured in a process of its own."""
