"""Brings documents into a cluster: all of them, or none where one could not be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import urllib3
from kubernetes import client

from tspin.errors import InputError, TspinError
from tspin_cluster.credentials import SECONDS, api_client
from tspin_cluster.reader import AbsentError, Reader, message

__all__ = ["apply_documents"]

_MANAGER = "tspin"
_INSTALL = {
    "serving.kserve.io/v1alpha2": "KServe 0.20 or newer with its LLMInferenceService",
    "serving.kserve.io/v1beta1": "KServe",
}


def apply_documents(documents: list[dict[str, Any]], canary: str) -> list[str]:
    """Apply documents as `kubectl apply --server-side` does, and end a canary that is over.

    The API is asked first whether it would take each, so that none is applied where one is refused.

    Args:
        documents: In their order.
        canary: Name of a canary's object; deleted where it is ours and not among the documents.

    Returns:
        What became of each object, a line each.

    Raises:
        InputError: the cluster lacks a kind, or finds fault with a document.
        TspinError: the cluster cannot be reached, or denies it.
    """
    reader = Reader()
    plurals = {_key(document): _plural(reader, *_key(document)) for document in documents}
    applier = _Applier(api_client(retries=2), plurals)
    for document in documents:
        applier.apply(document, dry=True)
    told = []
    for document in documents:
        applier.apply(document, dry=False)
        told.append(f"{_shown(document)} applied")
    named = {(*_key(document), document["metadata"]["name"]) for document in documents}
    namespace = documents[0]["metadata"]["namespace"]
    for version, kind in plurals:
        if (version, kind, canary) not in named and applier.end(version, kind, namespace, canary):
            told.append(f"{kind.lower()}/{canary} deleted")
    return told


def _key(document: dict[str, Any]) -> tuple[str, str]:
    return document["apiVersion"], document["kind"]


def _shown(document: dict[str, Any]) -> str:
    return f"{document['kind'].lower()}/{document['metadata']['name']}"


def _root(version: str) -> str:
    return f"/apis/{version}" if "/" in version else f"/api/{version}"


def _plural(reader: Reader, version: str, kind: str) -> str:
    try:
        kinds = reader.get(_root(version))["resources"]
    except AbsentError:
        kinds = []
    for one in kinds:
        if one["kind"] == kind and "/" not in one["name"]:
            return str(one["name"])
    needed = _INSTALL.get(version, f"the API {version}")
    raise InputError(
        f"the cluster has no {kind} of {version}; install {needed}, or use --to vllm, which needs "
        "none"
    )


class _Applier:
    """Writes objects, each under the name of its document."""

    def __init__(self, api: client.ApiClient, plurals: dict[tuple[str, str], str]) -> None:
        self._api = api
        self._plurals = plurals

    def apply(self, document: dict[str, Any], *, dry: bool) -> None:
        metadata = document["metadata"]
        path = self._path(*_key(document), metadata["namespace"], metadata["name"])
        query = {"fieldManager": _MANAGER, "fieldValidation": "Strict", "force": "true"}
        with _told(f"apply {_shown(document)}"):
            self._call(path, "PATCH", query | ({"dryRun": "All"} if dry else {}), document)

    def end(self, version: str, kind: str, namespace: str, name: str) -> bool:
        """Delete an object that `tspin` made; whether there was one."""
        path = self._path(version, kind, namespace, name)
        with _told(f"delete {kind.lower()}/{name}"):
            try:
                found = self._call(path, "GET")
            except client.ApiException as error:
                if error.status == 404:
                    return False
                raise
            labels = found["metadata"].get("labels") or {}
            if labels.get("app.kubernetes.io/managed-by") != _MANAGER:
                return False
            self._call(path, "DELETE", {"propagationPolicy": "Background"})
        return True

    def _path(self, version: str, kind: str, namespace: str, name: str) -> str:
        return f"{_root(version)}/namespaces/{namespace}/{self._plurals[version, kind]}/{name}"

    def _call(
        self,
        path: str,
        method: str,
        query: dict[str, str] | None = None,
        body: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/apply-patch+yaml"
        answer: dict[str, Any] = self._api.call_api(
            path,
            method,
            query_params=list((query or {}).items()),
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
            response_type="object",
            _return_http_data_only=True,
            _request_timeout=SECONDS,
        )
        return answer


@contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except client.ApiException as error:
        reason = message(error)
        if error.status in (400, 404, 422):
            raise InputError(f"the cluster refuses to {what}: {reason}") from None
        raise TspinError(f"the cluster does not {what} ({error.status}): {reason}") from None
    except urllib3.exceptions.HTTPError as error:
        raise TspinError(f"the Kubernetes API cannot be reached: {error}") from None
