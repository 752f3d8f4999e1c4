"""Component: a policy on held-out records."""

from typing import Optional

from kfp import dsl

from tspin_components.image import IMAGE

__all__ = ["evaluate"]


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def evaluate(
    settings: str,
    iteration: int,
    policy: dsl.Input[dsl.Model],
    heldout: dsl.Input[dsl.Dataset],
    evaluation: dsl.Output[dsl.Dataset],
    scalars: dsl.Output[dsl.Metrics],
    proto: Optional[dsl.Input[dsl.Dataset]] = None,  # noqa: UP045  (kfp reads no other form)
    shard: str = "0/1",
) -> None:
    """Measure a policy on held-out records.

    Args:
        settings: The run configuration, JSON.
        iteration: That the policy ended; -1 for the initial policy.
        policy: Is measured.
        heldout: Annotated records that were not trained on.
        evaluation: Folder with metrics.json, its manifest, and the answers.
        scalars: The values of metrics.json; none of a shard.
        proto: Responses of the initial policy to the same prompts.
        shard: `i/n` does the i-th of n equal parts of the work.
    """
    from tspin.config import RunConfig
    from tspin.evaluate.step import evaluate as step
    from tspin.generate.shards import Shard
    from tspin.monitoring.monitored import monitored
    from tspin.tracking.tracked import Step, tracked_step
    from tspin_components.artifacts import (
        METRICS,
        describe,
        output_in,
        policy_in,
        publish_metrics,
        records_in,
    )

    out = output_in(evaluation.path, METRICS)
    config = RunConfig.model_validate_json(settings)
    with monitored(config), tracked_step(Step("evaluate", out, int(iteration), config)):
        step(
            config,
            model=policy_in(policy.path),
            annotated=records_in(heldout.path),
            out=out,
            proto=None if proto is None else records_in(proto.path),
            iteration=int(iteration),
            shard=Shard.parse(shard),
        )
    evaluation.metadata.update(describe(out))
    for name, value in publish_metrics(out, scalars.path).items():
        scalars.log_metric(name, value)
