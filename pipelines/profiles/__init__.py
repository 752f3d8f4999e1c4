"""Profiles: where each stage of a pipeline runs and with what, one YAML file a kind of cluster."""
