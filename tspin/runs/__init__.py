"""The run folder: where everything stands, which iteration is the best, and what happened."""
