"""Component: from a policy and triplets to the next policy."""

from kfp import dsl

from tspin_components.image import IMAGE

__all__ = ["train"]


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def train(
    settings: str,
    iteration: int,
    policy: dsl.Input[dsl.Model],
    examples: dsl.Input[dsl.Dataset],
    trained: dsl.Output[dsl.Model],
    training: dsl.Output[dsl.Dataset],
    scalars: dsl.Output[dsl.Metrics],
) -> str:
    """Train the next policy; a killed training continues from its checkpoint.

    Args:
        settings: The run configuration, JSON.
        iteration: From 0.
        policy: To start from.
        examples: Triplets; for supervised fine-tuning annotated records.
        trained: Folder with the model, its manifest and train_log.jsonl.
        training: Folder with the manifest and train_log.jsonl alone.
        scalars: The last logged step.

    Returns:
        The URI of the trained policy.
    """
    from tspin.config import RunConfig
    from tspin.monitoring.monitored import monitored
    from tspin.tracking.tracked import Step, tracked_step
    from tspin.train.step import train as step
    from tspin_components.artifacts import MODEL, output_in, policy_in, publish_training, records_in

    out = output_in(trained.path, MODEL)
    config = RunConfig.model_validate_json(settings)
    with monitored(config), tracked_step(Step("train", out, int(iteration), config)):
        step(
            config,
            model=policy_in(policy.path),
            triplets=records_in(examples.path),
            iteration=int(iteration),
            out=out,
        )
    return publish_training(out, trained, training, scalars)
