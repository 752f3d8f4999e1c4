"""A user's own project on Kubeflow: what it starts with, and manifests from its profile."""
