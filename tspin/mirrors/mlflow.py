"""A registered model of MLflow: versions with tags, and the alias `champion`."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING

from tspin.mirrors.address import Address
from tspin.mirrors.mirror import RefusedError, not_ours
from tspin.mirrors.state import REGISTRY, State, Version, is_ours
from tspin.tracking.server import SETTINGS

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

__all__ = ["CHAMPION", "MlflowRegistry"]

CHAMPION = "champion"
"""The alias."""
_MODEL = "tspin.model"
"""Tag of a version: the content hash of its model. MLflow itself counts versions."""
_AGAIN = (408, 429)


class MlflowRegistry:
    """Users, passwords and tokens come from MLflow's own variables."""

    def __init__(self, address: Address) -> None:
        """Nothing is asked yet."""
        self._address = address

    def bring(self, state: State, *, whole: bool) -> list[str]:
        """See `tspin.mirrors.mirror.Mirror.bring`; one call lists all versions whole."""
        from mlflow.exceptions import MlflowException

        try:
            return self._bring(state)
        except MlflowException as error:
            status = int(error.get_http_status_code())  # type: ignore[no-untyped-call]
            # Made by somebody else since we looked: the next try finds it.
            raced = error.error_code == "RESOURCE_ALREADY_EXISTS"
            if 400 <= status < 500 and status not in _AGAIN and not raced:
                raise RefusedError(error.message[:300]) from None
            raise

    @cached_property
    def _client(self) -> MlflowClient:
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=self._address.url, registry_uri=self._address.url)

    def _bring(self, state: State) -> list[str]:
        changes: list[str] = []
        model = self._model(state, changes)
        there = self._versions(state.name)
        for version in state.versions:
            present = there.get(version.model)
            if present is None:
                there[version.model] = self._made(state.name, version)
                changes.append(f"version {version.model}: made")
            elif self._tagged(present, version):
                changes.append(f"version {version.model}: brought up to date")
        number = there[state.champion].version
        # An alias names one version: this one call takes it from the champion of before.
        if str(model.aliases.get(CHAMPION)) != str(number):
            self._client.set_registered_model_alias(state.name, CHAMPION, str(number))
            changes.append(f"champion: {state.champion}")
        return changes

    def _model(self, state: State, changes: list[str]) -> RegisteredModel:
        from mlflow.exceptions import MlflowException

        try:
            model = self._client.get_registered_model(state.name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            tags = {REGISTRY: state.registry}
            model = self._client.create_registered_model(state.name, tags=tags)
            changes.append(f"registered model {state.name}: made")
        owner = model.tags.get(REGISTRY)
        if owner != state.registry:
            raise not_ours(state, owner)
        return model

    def _versions(self, name: str) -> dict[str, ModelVersion]:
        """By the hash of their model; of two of one model the older counts."""
        versions: list[ModelVersion] = []
        token = None
        while True:
            page = self._client.search_model_versions(f"name = '{name}'", page_token=token)
            versions += page
            token = page.token
            if not token:
                break
        ordered = sorted(versions, key=lambda version: -int(version.version))
        return {version.tags[_MODEL]: version for version in ordered if _MODEL in version.tags}

    def _made(self, name: str, version: Version) -> ModelVersion:
        # The tags come with it: no version is there without saying which model it is.
        return self._client.create_model_version(
            name, version.uri, tags=_tags(version), await_creation_for=0
        )

    def _tagged(self, there: ModelVersion, version: Version) -> bool:
        """Set tags that are missing or other, take away those of earlier metrics; whether any."""
        tags = _tags(version)
        new = {name: value for name, value in tags.items() if there.tags.get(name) != value}
        old = [name for name in there.tags if is_ours(name) and name not in tags]
        at = (there.name, str(there.version))
        for name, value in new.items():
            self._client.set_model_version_tag(*at, name, value)
        for name in old:
            self._client.delete_model_version_tag(*at, name)
        return bool(new or old)


def _tags(version: Version) -> dict[str, str]:
    return {name: str(value) for name, value in version.properties.items()}
