"""How the Kubernetes API is reached: as the pod that this is, or as KUBECONFIG says."""

from __future__ import annotations

import os

import urllib3
from kubernetes import client, config

from tspin.errors import TspinError

__all__ = ["SECONDS", "api_client", "in_pod"]

SECONDS = (10.0, 60.0)
"""To connect, and between two answers."""


def in_pod() -> bool:
    """Whether this runs in a pod: Kubernetes gives each the address of its API."""
    return "KUBERNETES_SERVICE_HOST" in os.environ


def api_client(retries: int) -> client.ApiClient:
    """A client of the API; nothing is asked yet.

    Args:
        retries: How often an answer that did not come is asked for again.

    Raises:
        TspinError: there are no credentials.
    """
    try:
        if in_pod() and "KUBECONFIG" not in os.environ:
            config.load_incluster_config()
        else:
            config.load_kube_config(os.environ.get("KUBECONFIG"))
    except config.ConfigException as error:
        raise TspinError(f"no Kubernetes API, neither a pod's nor KUBECONFIG's: {error}") from None
    settings = client.Configuration.get_default_copy()
    settings.retries = urllib3.Retry(
        total=retries,
        backoff_factor=0.5,
        status_forcelist=(429, 500, 502, 503, 504),
        # Creating is safe to repeat as well: names are fixed, a second object is refused.
        allowed_methods=None,
        raise_on_status=False,
    )
    return client.ApiClient(settings)
