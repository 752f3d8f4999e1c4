"""Training on several nodes: a TrainJob of Kubeflow Trainer, from its creation to its model."""

from trainjob.nodes import Nodes
from trainjob.step import train_on_nodes

__all__ = ["Nodes", "train_on_nodes"]
