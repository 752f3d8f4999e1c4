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
    run_id: str = "",
    namespace: str = "",
    mirrors: list[str] = [],  # noqa: B006  (kfp takes no other default of a list)
    mirror_name: str = "",
    min_gain: float = 0.0,
) -> None:
    """Promote the best model of a run; the step fails where the registry's gate refuses.

    Args:
        config: The run configuration, JSON: `gate` names the metric and its direction.
        registry: Folder or S3 prefix.
        candidate: The best model.
        history: With the metrics of the iteration that it comes from.
        run: Name of the run.
        run_id: By which Kubeflow knows it; with the namespace, its page can be found.
        namespace: That it runs in.
        mirrors: Other registries that show the champion, too: model-registry=URL, mlflow=URL.
        mirror_name: Of the registered model there; made of the registry's URI if empty.
        min_gain: How much better than the champion, in units of the metric.
    """
    from pathlib import Path

    from tspin.config import RunConfig
    from tspin.mirrors.following import mirrored
    from tspin.registry import promote as step
    from tspin.runs.gate import best_metrics
    from tspin_components.artifacts import policy_in, run_address

    gate = RunConfig.model_validate_json(config).gate
    with mirrored(registry, mirrors, mirror_name or None):
        step(
            Path(policy_in(candidate.path)),
            metrics=best_metrics(Path(history.path)),
            registry=registry,
            metric=gate.metric,
            direction=gate.direction,
            min_gain=min_gain,
            run=run_address(namespace, run_id, run),
        )
