"""Component: responses from a policy to every prompt."""

from kfp import dsl

from tspin_components.image import IMAGE

__all__ = ["generate"]


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def generate(
    settings: str,
    iteration: int,
    policy: dsl.Input[dsl.Model],
    annotated: dsl.Input[dsl.Dataset],
    responses: dsl.Output[dsl.Dataset],
    shard: str = "0/1",
    samples: int = 0,
) -> None:
    """Sample a response from a policy to every prompt.

    Args:
        settings: The run configuration, JSON.
        iteration: From 0; part of every seed.
        policy: Answers.
        annotated: The prompts; their responses are not looked at.
        responses: Folder with responses.jsonl and its manifest.
        shard: `i/n` answers every n-th prompt, from the i-th.
        samples: Responses to each; 0 are those of the settings.
    """
    from tspin.config import RunConfig
    from tspin.generate.shards import Shard
    from tspin.generate.step import generate as step
    from tspin.monitoring.monitored import monitored
    from tspin.tracking.tracked import Step, tracked_step
    from tspin_components.artifacts import RESPONSES, describe, output_in, policy_in, records_in

    out = output_in(responses.path, RESPONSES)
    config = RunConfig.model_validate_json(settings)
    with monitored(config), tracked_step(Step("generate", out, int(iteration), config)):
        step(
            config,
            model=policy_in(policy.path),
            annotated=records_in(annotated.path),
            out=out,
            iteration=int(iteration),
            shard=Shard.parse(shard),
            samples=int(samples) or None,
        )
    responses.metadata.update(describe(out))
