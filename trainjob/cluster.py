"""The Kubernetes API, as far as a training on several nodes needs it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import urllib3
from kubernetes import client

from tspin.errors import InputError, TspinError
from tspin_cluster.credentials import SECONDS, api_client
from tspin_cluster.reader import message
from tspin_trainjob.manifest import GROUP, PLURAL, VERSION

__all__ = ["Cluster", "UnreachableError"]


class Cluster:
    """One namespace of the cluster that this pod is in, or that KUBECONFIG names."""

    def __init__(self, namespace: str) -> None:
        """Find the API and the credentials; nothing is asked yet.

        Raises:
            TspinError: there are none.
        """
        self.namespace = namespace
        api = api_client(retries=6)
        self._where = {
            "group": GROUP,
            "version": VERSION,
            "namespace": namespace,
            "plural": PLURAL,
            "_request_timeout": SECONDS,
        }
        self._jobs = client.CustomObjectsApi(api)
        self._pods = client.CoreV1Api(api)

    def create(self, document: dict[str, Any]) -> bool:
        """Create a TrainJob.

        Returns:
            Whether it was created; False if there is one of this name.

        Raises:
            InputError: the cluster finds fault with it.
            TspinError: the cluster denies it, or has no TrainJobs.
        """
        try:
            with self._told("create"):
                self._jobs.create_namespaced_custom_object(
                    body=document, field_validation="Strict", **self._where
                )
        except _ConflictError:
            return False
        except _AbsentError:
            raise TspinError(
                "the cluster has no TrainJobs; install Kubeflow Trainer, or train on one node"
            ) from None
        return True

    def find(self, name: str) -> dict[str, Any] | None:
        """The TrainJob of this name, or None."""
        try:
            with self._told("get"):
                trainjob: dict[str, Any] = self._jobs.get_namespaced_custom_object(
                    name=name, **self._where
                )
        except _AbsentError:
            return None
        return trainjob

    def own(self, name: str, owners: list[dict[str, Any]]) -> None:
        """Make this pod the owner of a TrainJob that another one created."""
        with self._told("patch"):
            self._jobs.patch_namespaced_custom_object(
                name=name, body={"metadata": {"ownerReferences": owners}}, **self._where
            )

    def delete(self, name: str) -> None:
        """Delete a TrainJob with its pods; one that is gone already is no error."""
        try:
            with self._told("delete"):
                self._jobs.delete_namespaced_custom_object(
                    name=name, propagation_policy="Background", **self._where
                )
        except _AbsentError:
            return

    def pods(self, name: str) -> list[Any]:
        """The pods of a TrainJob, node by node (`V1Pod`)."""
        with self._told("list"):
            answer = self._pods.list_namespaced_pod(
                self.namespace,
                label_selector=f"jobset.sigs.k8s.io/jobset-name={name}",
                _request_timeout=SECONDS,
            )
        return sorted(answer.items, key=lambda pod: pod.metadata.name)

    def log(self, pod: str, *, follow: bool, tail: int | None = None) -> Iterator[str]:
        """The lines of a pod's log, each with its time before it.

        Args:
            pod: Its name.
            follow: Until its container ends, instead of what there is now.
            tail: Only so many last lines.
        """
        limit = {} if tail is None else {"tail_lines": tail}
        timeout = (SECONDS[0], None if follow else SECONDS[1])
        with self._told("read the log of a pod of"):
            answer = self._pods.read_namespaced_pod_log(
                pod,
                self.namespace,
                follow=follow,
                timestamps=True,
                _preload_content=False,
                _request_timeout=timeout,
                **limit,
            )
        rest = b""
        for block in answer.stream():
            *lines, rest = (rest + block).split(b"\n")
            yield from (line.decode(errors="replace") for line in lines)
        if rest:
            yield rest.decode(errors="replace")

    @contextmanager
    def _told(self, verb: str) -> Iterator[None]:
        try:
            yield
        except client.ApiException as error:
            if error.status == 404:
                raise _AbsentError("there is none any more") from None
            if error.status == 409:
                raise _ConflictError("there is one already") from None
            reason = f"{verb} a TrainJob in namespace '{self.namespace}': {message(error)}"
            if error.status in (400, 422):
                raise InputError(f"the cluster refuses to {reason}") from None
            kind = UnreachableError if (error.status or 0) >= 500 else TspinError
            raise kind(f"the cluster does not {reason} ({error.status})") from None
        except urllib3.exceptions.HTTPError as error:
            raise UnreachableError(f"the Kubernetes API cannot be reached: {error}") from None


class UnreachableError(TspinError):
    """No answer, after several tries; the training may well go on."""


class _AbsentError(TspinError):
    """There is no such object."""


class _ConflictError(TspinError):
    """There is one already."""
