"""Component: the responses of all shards in one file."""

from kfp import dsl

from tspin_components.image import IMAGE

__all__ = ["merge_responses"]


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def merge_responses(
    shards: dsl.Input[list[dsl.Dataset]],
    annotated: dsl.Input[dsl.Dataset],
    responses: dsl.Output[dsl.Dataset],
) -> None:
    """Put the responses of all shards together: the bytes that one pod would have written.

    Args:
        shards: Of one generation, in any order.
        annotated: Whose prompts they answer.
        responses: Folder with responses.jsonl and its manifest.
    """
    from tspin.generate.shards import merge_responses as step
    from tspin.tracking.tracked import Step, tracked_step
    from tspin_components.artifacts import RESPONSES, describe, output_in, records_in

    out = output_in(responses.path, RESPONSES)
    parts = [records_in(shard.path) for shard in shards]
    with tracked_step(Step("merge-responses", out)):
        step(parts, annotated=records_in(annotated.path), out=out)
    responses.metadata.update(describe(out))
