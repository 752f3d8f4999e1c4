"""Held-out metrics with intervals, tasks, and a fitted sampling temperature."""
