"""Reads objects of the Kubernetes API as they are, of kinds that only some clusters have."""

from __future__ import annotations

import json
from typing import Any

import urllib3
from kubernetes import client

from tspin.errors import TspinError
from tspin_cluster.credentials import SECONDS, api_client

__all__ = ["AbsentError", "ForbiddenError", "Reader", "message"]

Object = dict[str, Any]


class AbsentError(TspinError):
    """There is no such object, or no such kind."""


class ForbiddenError(TspinError):
    """This identity may not look."""


class Reader:
    """Gets each object once, and never writes."""

    def __init__(self) -> None:
        """Find the API and the credentials; nothing is asked yet.

        Raises:
            TspinError: there are none.
        """
        self._api = api_client(retries=2)
        self._objects: dict[str, Object] = {}

    def get(self, path: str) -> Object:
        """The object, list or API at a path below the server's address.

        Raises:
            AbsentError: there is none.
            ForbiddenError: this identity may not know.
            TspinError: the API does not answer, or not to this identity.
        """
        if path not in self._objects:
            self._objects[path] = self._get(path)
        return self._objects[path]

    def _get(self, path: str) -> Object:
        try:
            answer: Object = self._api.call_api(
                path,
                "GET",
                header_params={"Accept": "application/json"},
                auth_settings=["BearerToken"],
                response_type="object",
                _return_http_data_only=True,
                _request_timeout=SECONDS,
            )
        except client.ApiException as error:
            reason = message(error)
            if error.status == 404:
                raise AbsentError(reason) from None
            if error.status == 403:
                raise ForbiddenError(reason) from None
            raise TspinError(f"the Kubernetes API answers {error.status}: {reason}") from None
        except urllib3.exceptions.HTTPError as error:
            raise TspinError(f"the Kubernetes API cannot be reached: {error}") from None
        return answer

    def named(self, namespace: str, plural: str, name: str) -> Object:
        """An object of a namespace.

        Args:
            namespace: Its namespace.
            plural: Its kind with its API: `secrets`, `kueue.x-k8s.io/v1beta2/localqueues`.
            name: Its name; '' lists all.

        Raises:
            TspinError: as `get`.
        """
        group, _, kind = plural.rpartition("/")
        root = f"/apis/{group}" if group else "/api/v1"
        return self.get(f"{root}/namespaces/{namespace}/{kind}/{name}".rstrip("/"))


def message(error: client.ApiException) -> str:
    """What the API says of an error: `message` of the Status that it answers with."""
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return str(error.body or error.reason)[:2000]
