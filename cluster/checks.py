"""All checks of a cluster: for `tspin doctor --cluster`, and as the first task of a run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial

from tspin.errors import InputError, TspinError
from tspin.machine.check import Check
from tspin_cluster import kubeflow, nodes, room, space
from tspin_cluster.credentials import in_pod
from tspin_cluster.finding import Finding
from tspin_cluster.images import check_image
from tspin_cluster.needs import Needs
from tspin_cluster.network import check_endpoint, endpoints
from tspin_cluster.reader import ForbiddenError, Reader

__all__ = ["cluster_checks", "preflight"]

Look = tuple[str, Callable[[], Finding]]


def cluster_checks(needs: Needs) -> Iterator[Check]:
    """Look at everything that a profile needs, as far as this identity may.

    In a pod also at what the pod must reach. Where the API does not answer, that is all there is
    to say.

    Args:
        needs: Of the profile.
    """
    reader = Reader()
    version = _check("Kubernetes API", partial(kubeflow.check_version, reader))
    yield version
    if version.status == "ok":
        for name, look in _looks(reader, needs):
            yield _check(name, look)
    for image in needs.images:
        yield _check(f"image {image}", partial(check_image, image))
    if in_pod():
        for endpoint in endpoints():
            yield _check(f"network: {endpoint.name}", partial(check_endpoint, endpoint))


def preflight(needs: Needs) -> None:
    """Print the checks of the cluster that this pod is in.

    A process outside of a cluster (`kfp.local`) has none to look at.

    Args:
        needs: Of the profile.

    Raises:
        SystemExit: a check failed; the run would fail for it, or wait for ever.
    """
    if not in_pod():
        print("no cluster here: nothing to check")  # noqa: T201  (a task's log)
        return
    failed = []
    for check in cluster_checks(needs):
        print(f"{check.status:4}  {check.name}: {'; '.join(check.lines())}")  # noqa: T201
        failed += [check.name] if check.status == "fail" else []
    if failed:
        print(f"the cluster is not fit for this run: {', '.join(failed)}", flush=True)  # noqa: T201
        sys.exit(InputError.exit_code)


def _looks(reader: Reader, needs: Needs) -> Iterator[Look]:
    yield "namespace", partial(space.check_namespace, reader, needs)
    yield "service account", partial(space.check_account, reader, needs)
    for claim in needs.claims:
        yield f"claim {claim.name}", partial(space.check_claim, reader, needs, claim)
    for title, kind, objects in (
        ("Secret", "secrets", needs.secrets),
        ("ConfigMap", "configmaps", needs.config_maps),
    ):
        for keys in objects:
            yield f"{title} {keys.name}", partial(space.check_keys, reader, needs, kind, keys)
    argo = "argoproj.io/v1alpha1"
    yield "Argo Workflows", partial(kubeflow.check_api, reader, argo, "Kubeflow Pipelines")
    yield "retries", partial(kubeflow.check_retries, reader)
    yield "artifacts", partial(kubeflow.check_root, reader, needs)
    if needs.runtime is not None:
        api = "trainer.kubeflow.org/v1alpha1"
        yield "Kubeflow Trainer", partial(kubeflow.check_api, reader, api, "Kubeflow Trainer")
        yield "training runtime", partial(kubeflow.check_runtime, reader, needs)
    yield from _rooms(reader, needs)


def _rooms(reader: Reader, needs: Needs) -> Iterator[Look]:
    """Whether each stage finds quota and nodes."""
    yield "ResourceQuota", partial(room.check_quotas, reader, needs)
    if needs.queue is not None:
        yield "Kueue", partial(kubeflow.check_api, reader, room.KUEUE, "Kueue")
        yield "queue", partial(room.check_queue, reader, needs)
        for name in needs.priorities:
            yield f"priority {name}", partial(room.check_priority, reader, needs, name)
    for gang in needs.gangs:
        if needs.queue is not None:
            look = partial(room.check_flavors, reader, needs, gang)
            yield f"quota of stage {gang.stage}", look
        yield f"nodes of stage {gang.stage}", partial(nodes.check_nodes, reader, gang)


def _check(name: str, look: Callable[[], Finding]) -> Check:
    try:
        finding = look()
    except ForbiddenError as error:
        finding = Finding("warn", f"cannot tell, this identity may not look: {error}")
    except TspinError as error:
        finding = Finding("fail", str(error))
    return Check(name, *finding)
