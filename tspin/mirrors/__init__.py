"""A registry's champion in other registries: Kubeflow Model Registry and MLflow's."""
