"""Component: find out whether the cluster is fit for the run, before anything is computed."""

from kfp import dsl

from tspin_components.image import IMAGE

__all__ = ["preflight"]


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def preflight(needs: str) -> None:
    """Look at the cluster as far as a task's rights go; exit code 2 if a check fails. Never cached.

    A missing Secret, a quota that is too small or a network policy then fails the run in its first
    minute, not after its GPU hours. Outside of a cluster there is nothing to look at.

    Args:
        needs: What the profile needs, JSON of `tspin_cluster.needs.Needs`.
    """
    from tspin_cluster.checks import preflight as check
    from tspin_cluster.needs import Needs

    check(Needs.model_validate_json(needs))
