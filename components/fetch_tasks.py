"""Component: what tasks of lm-evaluation-harness need is fetched before a pod asks them."""

from kfp import dsl

from tspin_components.image import IMAGE

__all__ = ["fetch_tasks"]


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def fetch_tasks(settings: str) -> None:
    """Download questions and metrics of the tasks into the cache that evaluations share.

    No evaluation then waits for the Hub while it holds a GPU, and its shards do not all ask at
    once. Never cached: the task is done when the data are there, which Kubeflow cannot see.

    Args:
        settings: The run configuration, JSON.
    """
    from tspin.config import RunConfig
    from tspin.harness.fetching import fetch_tasks as step

    step(RunConfig.model_validate_json(settings).evaluate)
