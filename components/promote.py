"""Component: the best model becomes the champion of a registry, if the gate lets it."""

from kfp import dsl

from tspin_components.image import IMAGE

__all__ = ["promote"]


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def promote(
    config: str,
    registry: str,
    candidate: dsl.Input[dsl.Model],
    history: dsl.Input[dsl.Dataset],
    run: str,
    min_gain: float = 0.0,
) -> None:
    """Promote the best model of a run; the step fails where the registry's gate refuses.

    Args:
        config: The run configuration, JSON: `gate` names the metric and its direction.
        registry: Folder or S3 prefix.
        candidate: The best model.
        history: With the metrics of the iteration that it comes from.
        run: Who looks at the registry finds the run by this name.
        min_gain: How much better than the champion, in units of the metric.
    """
    from pathlib import Path

    from tspin.config import RunConfig
    from tspin.registry import promote as step
    from tspin.runs.gate import best_metrics
    from tspin_components.artifacts import policy_in

    gate = RunConfig.model_validate_json(config).gate
    step(
        Path(policy_in(candidate.path)),
        metrics=best_metrics(Path(history.path)),
        registry=registry,
        metric=gate.metric,
        direction=gate.direction,
        min_gain=min_gain,
        run=run,
    )
