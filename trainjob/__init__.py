"""Training on several nodes: a TrainJob of Kubeflow Trainer, from its creation to its model."""
