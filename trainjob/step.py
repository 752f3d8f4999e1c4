"""The train step on several nodes: inputs staged, a TrainJob followed, its model taken."""

from __future__ import annotations

import logging
import math
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from tspin.config import RunConfig
from tspin.models.folder import find_model
from tspin.records.manifest import content_hash
from tspin.tracking.tracked import Step, tracked_step
from tspin.tracking.trackers import MLFLOW
from tspin_trainjob.cluster import Cluster
from tspin_trainjob.follow import MissingNodesError, condition, follow
from tspin_trainjob.manifest import owner, trainjob, trainjob_name
from tspin_trainjob.nodes import Nodes
from tspin_trainjob.staging import Staging

__all__ = ["train_on_nodes"]

log = logging.getLogger("tspin.trainjob")

POLL_SECONDS = 10.0


def train_on_nodes(
    settings: str,
    *,
    nodes: Nodes,
    model: str,
    triplets: Path,
    iteration: int,
    out: Path,
    every: float = POLL_SECONDS,
) -> None:
    """Train the next policy as `tspin.train.step.train` does, on several nodes.

    A second try of the same work finds the TrainJob of the first and follows it; if that has
    failed, it is made anew and continues from its checkpoints. However this ends, the TrainJob
    and the files on the shared volume are deleted; checkpoints stay (`system.checkpoints`).

    Args:
        settings: The run configuration, JSON.
        nodes: What the TrainJob asks for.
        model: pi_t: a folder or a Hub name.
        triplets: As `build_triplets` writes them.
        iteration: t, from 0.
        out: The folder of pi_{t+1}; beside it its manifest and train_log.jsonl.
        every: Seconds between two looks at the TrainJob.

    Raises:
        InputError: the inputs are missing, or the cluster refuses what is asked for.
        TspinError: the training failed, or the cluster cannot be reached.
        SystemExit: 143, SIGTERM.
    """
    config = RunConfig.model_validate_json(settings)
    work = {
        "settings": settings,
        "iteration": iteration,
        "policy": find_model(model, config.model).identity(config.model),
        "triplets": content_hash(triplets),
        "nodes": nodes.model_dump(exclude={"count"}),
    }
    name = trainjob_name(work)
    cluster, staging = Cluster(nodes.namespace), Staging(Path(nodes.shared) / name)
    with _sigterm_raises():
        try:
            policy = staging.put(_for_nodes(config), model, triplets)
            with tracked_step(Step("train", out, iteration, config, staging.train_log)):
                _trained(cluster, name, nodes, staging.command(policy, iteration), every)
                staging.take(out)
        finally:
            cluster.delete(name)
            staging.remove()


def _for_nodes(config: RunConfig) -> str:
    """What the nodes train with: MLflow is told from here, where its address and token are."""
    others = tuple(name for name in config.system.report_to if name != MLFLOW)
    system = config.system.model_copy(update={"report_to": others})
    return config.model_copy(update={"system": system}).model_dump_json()


def _trained(cluster: Cluster, name: str, nodes: Nodes, command: list[str], every: float) -> None:
    """Follow the TrainJob to its end, with fewer nodes where some do not come back."""
    count = nodes.count
    while True:
        now = nodes.model_copy(update={"count": count})
        _start(cluster, trainjob(name, now, command), every)
        wait = math.inf if count == nodes.least else nodes.wait_seconds
        try:
            follow(cluster, name, say=log.info, every=every, wait_seconds=wait)
        except MissingNodesError as error:
            count -= 1
            log.warning("%s; going on with %d nodes from the last checkpoint", error, count)
            cluster.delete(name)
        else:
            return


def _start(cluster: Cluster, document: dict[str, Any], every: float) -> None:
    """Create the TrainJob, or take over the one that an earlier try left.

    The cluster is asked again after `every` seconds until there is one to follow: the one that is
    in the way may be on its way out, and gone when it is looked for.
    """
    name = document["metadata"]["name"]
    while not cluster.create(document):
        trainjob = cluster.find(name)
        if trainjob is not None and "deletionTimestamp" not in trainjob["metadata"]:
            ended = condition(trainjob)
            if ended is None or ended["type"] == "Complete":
                log.info("following TrainJob %s, which is there already", name)
                cluster.own(name, owner())
                return
            log.info("TrainJob %s of an earlier try failed; making it anew", name)
            cluster.delete(name)
        time.sleep(every)
    log.info("created TrainJob %s", name)


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Let SIGTERM unwind the stack once, so that what is to be cleaned up is."""

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
