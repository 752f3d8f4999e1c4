"""A registry's champion in other registries: Kubeflow Model Registry and MLflow's."""

from tspin.mirrors.following import Mirrors, mirrored

__all__ = ["Mirrors", "mirrored"]
