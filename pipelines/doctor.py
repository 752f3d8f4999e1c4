"""What `tspin doctor --cluster` looks at: the cluster of KUBECONFIG, for a profile."""

from __future__ import annotations

from tspin.errors import InputError
from tspin.machine.check import Check
from tspin_pipelines.profiles.profile import load_profile

__all__ = ["cluster_report"]


def cluster_report(profile: str, artifact_bytes: int | None = None) -> list[Check]:
    """Check a cluster for a profile.

    Args:
        profile: Its name or its path.
        artifact_bytes: Of the models of a whole run, where it is known.

    Raises:
        InputError: there is no such profile, or the client of Kubernetes is not installed.
        TspinError: there are no credentials for a cluster.
    """
    settings = load_profile(profile)
    try:
        from tspin_cluster.checks import cluster_checks
        from tspin_pipelines.needs import needs_of
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        raise InputError(
            f"the Python package '{package}' is missing; install what a look at a cluster "
            "needs: pip install 'tspin[pipelines]'"
        ) from None
    return list(cluster_checks(needs_of(settings, artifact_bytes=artifact_bytes)))
