"""A TrainJob from its creation to its end: what its nodes say, and how it ended."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import urllib3

from tspin.errors import TspinError
from tspin_trainjob.cluster import Cluster, UnreachableError
from tspin_trainjob.pod_log import PodLog

__all__ = ["MissingNodesError", "condition", "follow"]

_INDEX = "batch.kubernetes.io/job-completion-index"
_LOG_SECONDS = 30.0
_TAIL_LINES = 40
_PATIENCE_SECONDS = 1800.0
"""How long the training is left alone while the API does not answer."""


class MissingNodesError(TspinError):
    """Nodes of a TrainJob have not come for too long."""


def condition(job: dict[str, Any]) -> dict[str, Any] | None:
    """What has ended a TrainJob (`Complete` or `Failed`), or None while it goes on."""
    for entry in job.get("status", {}).get("conditions", ()):
        if entry["type"] in ("Complete", "Failed") and entry["status"] == "True":
            ended: dict[str, Any] = entry
            return ended
    return None


def follow(
    cluster: Cluster,
    name: str,
    *,
    say: Callable[[str], None],
    every: float,
    wait_seconds: float = math.inf,
) -> None:
    """Return when a TrainJob is complete.

    Args:
        cluster: Where it is.
        name: Its name.
        say: Gets the log of the first node, and what becomes of each.
        every: Seconds between two looks.
        wait_seconds: How long pods of it may find no node. One that Kueue holds back has no pods,
            and waits as long as that takes.

    Raises:
        MissingNodesError: they waited longer.
        TspinError: it failed, with the last lines of the nodes that did; or somebody deleted it.
    """
    nodes = _Nodes(cluster, say)
    answered = placed = time.monotonic()
    while True:
        try:
            job, pods = cluster.find(name), cluster.pods(name)
            answered = time.monotonic()
        except UnreachableError as error:
            if time.monotonic() - answered > _PATIENCE_SECONDS:
                raise
            say(f"asking again: {error}")
            continue
        if job is None:
            raise TspinError(f"TrainJob {name} was deleted while it ran")
        ended = condition(job)
        nodes.look(pods, ended=ended is not None)
        if ended is not None:
            return _end(cluster, name, ended, pods, say)
        missing = [_index(pod) for pod in pods if pod.status.phase == "Pending"]
        placed = placed if missing else time.monotonic()
        if time.monotonic() - placed > wait_seconds:
            raise MissingNodesError(
                f"TrainJob {name}: no machine for node {', '.join(missing)} in {wait_seconds:g} s"
            )
        time.sleep(every)


class _Nodes:
    """What was told of the nodes so far, and the logs that are followed: the first node's."""

    def __init__(self, cluster: Cluster, say: Callable[[str], None]) -> None:
        self._cluster, self._say = cluster, say
        self._told: dict[str, str] = {}
        self._logs: dict[str, PodLog] = {}

    def look(self, pods: list[Any], *, ended: bool) -> None:
        for pod in pods:
            self._tell(pod)
            name, phase = pod.metadata.name, pod.status.phase
            if _index(pod) == "0" and phase != "Pending":
                log = self._logs.setdefault(name, PodLog(self._cluster, name, self._say))
                if phase == "Running" and not ended:
                    log.follow()
        if ended:
            for log in self._logs.values():
                log.finish(_LOG_SECONDS)

    def _tell(self, pod: Any) -> None:
        """Say once what a node is doing, and what it is waiting for."""
        state = pod.status.phase.lower()
        for container in pod.status.container_statuses or ():
            waiting = container.state.waiting if container.state else None
            if waiting is not None and waiting.reason:
                state += f", {waiting.reason}" + (f": {waiting.message}" if waiting.message else "")
        if self._told.get(pod.metadata.name) != state:
            self._told[pod.metadata.name] = state
            self._say(f"node {_index(pod)} ({pod.metadata.name}): {state}")


def _index(pod: Any) -> str:
    labels = pod.metadata.labels or {}
    return str(labels.get(_INDEX) or (pod.metadata.annotations or {}).get(_INDEX, "?"))


def _end(
    cluster: Cluster, name: str, ended: dict[str, Any], pods: list[Any], say: Callable[[str], None]
) -> None:
    if ended["type"] == "Complete":
        return
    for pod in pods:
        if pod.status.phase == "Failed" and _index(pod) != "0":
            _quote(cluster, pod, say)
    reason = ": ".join(ended[key] for key in ("reason", "message") if ended.get(key))
    raise TspinError(f"TrainJob {name} failed: {reason or 'no reason given'}")


def _quote(cluster: Cluster, pod: Any, say: Callable[[str], None]) -> None:
    """The last lines of a node that failed. Its log may be gone with its machine: then a note."""
    try:
        for line in cluster.log(pod.metadata.name, follow=False, tail=_TAIL_LINES):
            say(f"node {_index(pod)}: {line.partition(' ')[2]}")
    except (TspinError, urllib3.exceptions.HTTPError) as error:
        say(f"node {_index(pod)}: (its log cannot be read: {error})")
