"""Component: the train step where one node is not enough."""

from kfp import dsl

from tspin_components.image import IMAGE

__all__ = ["train_multinode"]


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def train_multinode(
    settings: str,
    iteration: int,
    policy: dsl.Input[dsl.Model],
    examples: dsl.Input[dsl.Dataset],
    nodes: str,
    trained: dsl.Output[dsl.Model],
    training: dsl.Output[dsl.Dataset],
    scalars: dsl.Output[dsl.Metrics],
) -> str:
    """Train the next policy on several nodes, through a TrainJob of Kubeflow Trainer.

    Args:
        settings: The run configuration, JSON.
        iteration: From 0.
        policy: To start from.
        examples: Triplets; for supervised fine-tuning annotated records.
        nodes: How many and with what, JSON of `tspin_trainjob.nodes.Nodes`.
        trained: Folder with the model, its manifest and train_log.jsonl.
        training: Folder with the manifest and train_log.jsonl alone.
        scalars: The last logged step.

    Returns:
        The URI of the trained policy.
    """
    import logging

    from tspin_components.artifacts import MODEL, output_in, policy_in, publish_training, records_in
    from tspin_trainjob.nodes import Nodes
    from tspin_trainjob.step import train_on_nodes

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    out = output_in(trained.path, MODEL)
    train_on_nodes(
        settings,
        nodes=Nodes.model_validate_json(nodes),
        model=policy_in(policy.path),
        triplets=records_in(examples.path),
        iteration=int(iteration),
        out=out,
    )
    return publish_training(out, trained, training, scalars)
