"""Each prompt once: tree attention over all its responses, on CPU and GPU."""
