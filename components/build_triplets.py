"""Component: annotated, synthetic and proto-synthetic responses joined."""

from typing import Optional

from kfp import dsl

from tspin_components.image import IMAGE

__all__ = ["build_triplets"]


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def build_triplets(
    settings: str,
    annotated: dsl.Input[dsl.Dataset],
    synthetic: dsl.Input[dsl.Dataset],
    proto: dsl.Input[dsl.Dataset],
    triplets: dsl.Output[dsl.Dataset],
    earlier: Optional[dsl.Input[dsl.Dataset]] = None,  # noqa: UP045  (kfp reads no other form)
) -> None:
    """Join the three responses to each prompt.

    Args:
        settings: The run configuration, JSON.
        annotated: y.
        synthetic: y', of the policy that the iteration starts from.
        proto: y0, of the initial policy.
        triplets: Folder with triplets.jsonl and its manifest.
        earlier: Responses of the policies between those two (`collect_responses`).
    """
    from tspin.config import RunConfig
    from tspin.tracking.tracked import Step, tracked_step
    from tspin.triplets import build_triplets as step
    from tspin_components.artifacts import TRIPLETS, describe, earlier_in, output_in, records_in

    out = output_in(triplets.path, TRIPLETS)
    with tracked_step(Step("build-triplets", out)):
        step(
            RunConfig.model_validate_json(settings).triplets,
            annotated=records_in(annotated.path),
            synthetic=records_in(synthetic.path),
            proto=records_in(proto.path),
            out=out,
            earlier=earlier_in(earlier),
        )
    triplets.metadata.update(describe(out))
