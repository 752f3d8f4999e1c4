"""Component: the shards of an evaluation in one."""

from kfp import dsl

from tspin_components.image import IMAGE

__all__ = ["merge_evaluations"]


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def merge_evaluations(
    shards: dsl.Input[list[dsl.Dataset]],
    heldout: dsl.Input[dsl.Dataset],
    evaluation: dsl.Output[dsl.Dataset],
    scalars: dsl.Output[dsl.Metrics],
) -> None:
    """Put the shards of an evaluation together: the bytes that one pod would have written.

    Args:
        shards: Of one evaluation, in any order.
        heldout: The records that were measured on.
        evaluation: Folder with metrics.json, its manifest, and the answers.
        scalars: The values of metrics.json.
    """
    from tspin.evaluate.shards.merging import merge_evaluations as step
    from tspin.tracking.tracked import Step, tracked_step
    from tspin_components.artifacts import (
        METRICS,
        describe,
        metrics_in,
        output_in,
        publish_metrics,
        records_in,
    )

    out = output_in(evaluation.path, METRICS)
    parts = [metrics_in(shard.path) for shard in shards]
    with tracked_step(Step("merge-evaluations", out)):
        step(parts, annotated=records_in(heldout.path), out=out)
    evaluation.metadata.update(describe(out))
    for name, value in publish_metrics(out, scalars.path).items():
        scalars.log_metric(name, value)
