"""What Kubeflow Trainer makes of a TrainJob, on this machine: a real process a node."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests import warm
from tests.ports import free_port

__all__ = ["Job"]

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--module", "tspin"]
"""The command of the runtime, k8s/components/trainer/runtime.yaml."""


@dataclass
class Node:
    """A pod: its process, and the lines that it has written."""

    name: str
    index: int
    process: subprocess.Popen[str] | None
    """None where no machine has room for the pod."""
    lines: list[str] = field(default_factory=list)
    written: threading.Condition = field(default_factory=threading.Condition)

    def read(self) -> None:
        """Collect what the process writes, with the time of each line, until its end."""
        if self.process is None:
            return
        for line in self.process.stdout or ():
            with self.written:
                time = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
                self.lines.append(f"{time} {line}")
                self.written.notify_all()
        self.process.wait()
        with self.written:
            self.written.notify_all()

    @property
    def phase(self) -> str:
        """As Kubernetes calls it."""
        if self.process is None:
            return "Pending"
        code = self.process.poll()
        return "Running" if code is None else "Failed" if code else "Succeeded"

    @property
    def running(self) -> bool:
        """Whether more may come into its log."""
        return self.process is not None and self.process.poll() is None

    @property
    def lost(self) -> bool:
        """Whether its machine is gone, which is a SIGKILL here."""
        return self.process is not None and self.process.poll() == -signal.SIGKILL

    def pod(self, job: str) -> dict[str, Any]:
        """The pod's document."""
        labels = {
            "jobset.sigs.k8s.io/jobset-name": job,
            "batch.kubernetes.io/job-completion-index": str(self.index),
        }
        return {
            "metadata": {"name": self.name, "labels": labels},
            "spec": {"containers": [{"name": "node"}]},
            "status": {"phase": self.phase},
        }


class Job:
    """A TrainJob and its nodes."""

    def __init__(self, document: dict[str, Any], machines: Callable[[], int]) -> None:
        """Start a process a node, as far as there are machines."""
        self.document = document
        self.name = document["metadata"]["name"]
        self._machines = machines
        self.restarts = 0
        self.nodes = self._started()

    def _started(self) -> list[Node]:
        """torchrun on each node, with the variables that Trainer sets."""
        trainer = self.document["spec"]["trainer"]
        port, machines = free_port(), self._machines()
        nodes = [
            self._node(index, trainer, port)
            if index < machines
            else Node(f"{self.name}-node-0-{index}-{self.restarts}", index, None)
            for index in range(trainer["numNodes"])
        ]
        for node in nodes:
            threading.Thread(target=node.read, daemon=True).start()
        return nodes

    def _node(self, index: int, trainer: dict[str, Any], port: int) -> Node:
        rendezvous = {
            "PET_NNODES": trainer["numNodes"],
            "PET_NPROC_PER_NODE": trainer["numProcPerNode"],
            "PET_NODE_RANK": index,
            "PET_MASTER_ADDR": "127.0.0.1",
            "PET_MASTER_PORT": port,
        }
        given = {entry["name"]: entry["value"] for entry in trainer["env"]}
        process = warm.Popen(
            [*TORCHRUN, *trainer["args"]],
            env=os.environ | given | {key: str(value) for key, value in rendezvous.items()},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        return Node(f"{self.name}-node-0-{index}-x{process.pid}", index, process)

    def shown(self) -> dict[str, Any]:
        """The document with its status; a JobSet whose machine is gone is begun again."""
        if any(node.lost for node in self.nodes):
            self.stop()
            self.restarts += 1
            self.nodes = self._started()
        phases = [node.phase for node in self.nodes]
        ended = None
        if "Failed" in phases:
            ended = {"type": "Failed", "reason": "JobsFailed", "message": "jobset failed"}
        elif set(phases) == {"Succeeded"}:
            ended = {"type": "Complete", "reason": "JobsCompleted", "message": "all done"}
        conditions = [] if ended is None else [ended | {"status": "True"}]
        return self.document | {"status": {"conditions": conditions}}

    def stop(self) -> None:
        """End all nodes, as their pods' deletion does."""
        placed = [node.process for node in self.nodes if node.process is not None]
        for process in placed:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
        for process in placed:
            process.wait()
