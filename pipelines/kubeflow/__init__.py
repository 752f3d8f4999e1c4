"""A run on a Kubeflow server: compiled, submitted, watched."""
