"""The image that a component names until a pipeline is compiled for a profile."""

__all__ = ["IMAGE"]

IMAGE = "tspin/cpu:0.1.0"
