"""A policy: its folder, its weights, its shape, and where it computes."""
