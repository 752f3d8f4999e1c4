"""A registered model of Kubeflow Model Registry, by `mr_openapi`, the client's generated half.

Its other half, `model_registry.ModelRegistry` of 0.3.18, registers in three calls of which none may
be made again: a model without the property that says whose it is, a version that must be new, an
artifact. It also sets up logging when it is imported, and refuses https without a token.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tspin.errors import TspinError
from tspin.mirrors.address import Address
from tspin.mirrors.mirror import SECONDS, RefusedError, not_ours
from tspin.mirrors.state import REGISTRY, Property, State, Version, is_ours

__all__ = ["CHAMPION", "ModelRegistry"]

CHAMPION = "champion"
"""Property: true of one version; and of the registered model the name of that version."""
_TOKEN = "KF_PIPELINES_SA_TOKEN_PATH"  # noqa: S105  (a variable's name)
_ACCOUNT_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
"""Both as the client has them (model_registry/_client.py of 0.3.18)."""
_FORMAT = {"model_format_name": "safetensors", "model_format_version": "1"}
_AGAIN = (408, 409, 429)
"""Too slow, too late, too often: what a second try may mend."""


class ModelRegistry:
    """Of an address, the registered model that a state names."""

    def __init__(self, address: Address) -> None:
        """Nothing is asked yet."""
        self._address = address

    def bring(self, state: State, *, whole: bool) -> list[str]:
        """See `tspin.mirrors.mirror.Mirror.bring`."""
        from mr_openapi.exceptions import ApiException

        token = _token()
        try:
            return asyncio.run(self._bring(state, token, whole))
        except ApiException as error:
            # Not its own text, which has the headers of the answer; and no token that is echoed.
            body = (error.body or "").replace(token or "\0", "***")
            text = f"{error.status} {error.reason}: {body}"
            refused = 400 <= (error.status or 0) < 500 and error.status not in _AGAIN
            raise (RefusedError if refused else TspinError)(text[:300]) from None

    async def _bring(self, state: State, token: str | None, whole: bool) -> list[str]:
        from mr_openapi import ApiClient, Configuration, ModelRegistryServiceApi

        # Retries are of calls that change nothing, by aiohttp-retry. The certificates are those of
        # SSL_CERT_FILE or of the system.
        settings = Configuration(host=self._address.url, access_token=token, retries=3)
        async with ApiClient(settings) as client:
            return await _Try(ModelRegistryServiceApi(client), state).bring(whole)


class _Try:
    """One try to make a registered model what it should be."""

    def __init__(self, api: Any, state: State) -> None:
        self._api, self._state = api, state
        self._limit = {"_request_timeout": SECONDS}
        self._changes: list[str] = []

    async def bring(self, whole: bool) -> list[str]:
        """Versions with their artifacts, then the champion; the lines of what was changed."""
        model = await self._model()
        there = {version.name: version for version in await self._versions(model.id)}
        for version in self._state.versions:
            new = version.model not in there
            there[version.model] = await self._version(model.id, version, there.get(version.model))
            if whole or new or version.model == self._state.champion:
                await self._artifact(there[version.model].id, version)
        await self._mark(model, there)
        return self._changes

    async def _model(self) -> Any:
        from mr_openapi import RegisteredModelCreate
        from mr_openapi.exceptions import NotFoundException

        state = self._state
        try:
            model = await self._api.find_registered_model(name=state.name, **self._limit)
        except NotFoundException:
            # One call makes it and says whose it is: after a kill it is found as ours.
            properties = _values({REGISTRY: state.registry})
            asked = RegisteredModelCreate(name=state.name, custom_properties=properties)
            model = await self._api.create_registered_model(asked, **self._limit)
            self._changes.append(f"registered model {state.name}: made")
        owner = _plain(model.custom_properties).get(REGISTRY)
        if owner != state.registry:
            raise not_ours(state, owner)
        return model

    async def _versions(self, model_id: str) -> list[Any]:
        versions: list[Any] = []
        token = None
        while True:
            page = await self._api.get_registered_model_versions(
                model_id, page_size="100", next_page_token=token, **self._limit
            )
            versions += page.items or []
            token = page.next_page_token
            if not token or not page.items:
                return versions

    async def _version(self, model_id: str, version: Version, there: Any) -> Any:
        """A version with our properties, made or changed where need be; the others' are kept."""
        from mr_openapi import ModelVersionCreate

        properties = _values(version.properties)
        if there is not None:
            kept = {k: v for k, v in (there.custom_properties or {}).items() if not is_ours(k)}
            return await self._changed_version(there, kept | properties, "brought up to date")
        asked = ModelVersionCreate(
            name=version.model,
            registered_model_id=model_id,
            author=version.author,
            custom_properties=properties | _values({CHAMPION: False}),
        )
        made = await self._api.create_model_version(asked, **self._limit)
        self._changes.append(f"version {version.model}: made")
        return made

    async def _changed_version(self, there: Any, properties: dict[str, Any], done: str) -> Any:
        from mr_openapi import ModelVersionUpdate

        if _plain(there.custom_properties) == _plain(properties):
            return there
        # Without its state: the default would take a version out of the archive.
        asked = ModelVersionUpdate(custom_properties=properties, state=None)
        changed = await self._api.update_model_version(there.id, asked, **self._limit)
        self._changes.append(f"version {there.name}: {done}")
        return changed

    async def _artifact(self, version_id: str, version: Version) -> None:
        """Where the model is and comes from; under the name that the client looks for."""
        from mr_openapi import Artifact, ModelArtifact, ModelArtifactUpdate

        name = self._state.name
        page = await self._api.get_model_version_artifacts(version_id, **self._limit)
        artifacts = [artifact.actual_instance for artifact in page.items or []]
        there = next((a for a in artifacts if a.name == name and hasattr(a, "uri")), None)
        fields = _FORMAT | _source(version) | {"uri": version.uri}
        if there is None:
            # With the state that the server gives it itself, which validates what it is sent.
            asked = ModelArtifact(name=name, artifact_type="model-artifact", **fields)
            made = Artifact(actual_instance=asked)
            await self._api.upsert_model_version_artifact(version_id, made, **self._limit)
            self._changes.append(f"version {version.model}: artifact made")
        elif any(getattr(there, field, None) != value for field, value in fields.items()):
            changed = ModelArtifactUpdate(artifact_type="model-artifact", state=None, **fields)
            await self._api.update_model_artifact(there.id, changed, **self._limit)
            self._changes.append(f"version {version.model}: artifact brought up to date")

    async def _mark(self, model: Any, there: Mapping[str, Any]) -> None:
        """One champion: marked before the others' marks go, so that there is none at no time.

        The registered model's property is a single one, and tells in between which of two it is.
        """
        from mr_openapi import RegisteredModelUpdate

        champion = self._state.champion
        await self._flag(there[champion], champion=True)
        properties = (model.custom_properties or {}) | _values({CHAMPION: champion})
        if _plain(model.custom_properties) != _plain(properties):
            asked = RegisteredModelUpdate(custom_properties=properties, state=None)
            await self._api.update_registered_model(model.id, asked, **self._limit)
            self._changes.append(f"champion: {champion}")
        for name, version in there.items():
            if name != champion:
                await self._flag(version, champion=False)

    async def _flag(self, version: Any, *, champion: bool) -> None:
        properties = version.custom_properties or {}
        if _plain(properties).get(CHAMPION, False) is not champion:
            done = "marked as champion" if champion else "no champion any more"
            await self._changed_version(version, properties | _values({CHAMPION: champion}), done)


def _source(version: Version) -> dict[str, str]:
    source = version.source
    names = {"class": source.family, "group": source.group, "id": source.id, "kind": source.kind}
    return {f"model_source_{k}": v for k, v in {**names, "name": source.name}.items()}


def _values(properties: Mapping[str, Property]) -> dict[str, Any]:
    """Properties as the API has them, each with its type."""
    from mr_openapi import MetadataValue

    kinds = {bool: "bool", int: "int", float: "double", str: "string"}
    values = {}
    for name, value in properties.items():
        kind = kinds[type(value)]
        content = str(value) if kind == "int" else value
        described = {f"{kind}_value": content, "metadataType": f"Metadata{kind.title()}Value"}
        values[name] = MetadataValue.from_dict(described)
    return values


def _plain(properties: Mapping[str, Any] | None) -> dict[str, Any]:
    """The values alone; of a kind that is not ours to write, all that the API says of it."""
    plain = {}
    for name, value in (properties or {}).items():
        described = dict(value.actual_instance.to_dict())
        kind = described.pop("metadataType")
        plain[name] = described if kind == "MetadataStructValue" else next(iter(described.values()))
    return plain


def _token() -> str | None:
    """As the client finds it: a file that a variable names, else that of the pod's account."""
    named = os.environ.get(_TOKEN)
    path = _ACCOUNT_TOKEN if named is None else Path(named)
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except OSError as error:
        if named is None:
            return None
        raise RefusedError(f"{_TOKEN} names {path}: {error.strerror}") from None
