"""Serving a champion: what a cluster runs of it, and whether it answers as it was measured."""
