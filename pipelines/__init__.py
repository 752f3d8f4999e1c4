"""Kubeflow pipelines: the iteration, the whole run, profiles, compile, submit."""
