"""External Secrets: external-secrets.io/v1."""

# ruff: noqa: N815

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from custom.common import Name
from tspin.config.strict import Strict


class StoreRef(Strict):
    kind: Literal["SecretStore"]
    name: Name


class TargetTemplate(Strict):
    type: str


class Target(Strict):
    name: Name
    creationPolicy: Literal["Owner"]
    template: TargetTemplate | None = None


class RemoteRef(Strict):
    key: str
    property: str | None = None


class SecretData(Strict):
    secretKey: str
    remoteRef: RemoteRef


class ExternalSecretSpec(Strict):
    refreshInterval: str
    secretStoreRef: StoreRef
    target: Target
    data: list[SecretData]


class Account(Strict):
    serviceAccountRef: dict[Literal["name"], Name]


class Jwt(Strict):
    jwt: Account


class Aws(Strict):
    service: Literal["SecretsManager", "ParameterStore"]
    region: str
    auth: Jwt


class WorkloadIdentity(Strict):
    workloadIdentity: Account


class GcpSecretManager(Strict):
    projectID: str
    auth: WorkloadIdentity


class AzureKeyVault(Account):
    authType: Literal["WorkloadIdentity"]
    vaultUrl: Annotated[str, Field(pattern="^https://")]


class KubernetesAuth(Account):
    mountPath: str
    role: str


class VaultAuth(Strict):
    kubernetes: KubernetesAuth


class Vault(Strict):
    server: Annotated[str, Field(pattern="^https://")]
    path: str
    version: Literal["v1", "v2"]
    auth: VaultAuth


class Provider(Strict):
    aws: Aws | None = None
    gcpsm: GcpSecretManager | None = None
    azurekv: AzureKeyVault | None = None
    vault: Vault | None = None

    @model_validator(mode="after")
    def _one(self) -> Provider:
        if len(self.model_fields_set) != 1:
            raise ValueError("a store has exactly one provider")
        return self


class SecretStoreSpec(Strict):
    provider: Provider
