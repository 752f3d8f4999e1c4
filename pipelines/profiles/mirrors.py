"""Other registries that show the champion, too."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from tspin.config.strict import Strict
from tspin.errors import InputError
from tspin.mirrors.address import Address

__all__ = ["Mirrors"]


def _address(value: str) -> str:
    try:
        return str(Address.of(value))
    except InputError as error:
        raise ValueError(str(error)) from None


class Mirrors(Strict):
    """What the promote task hands to `--mirror`; tokens come from the stage's Secrets."""

    addresses: tuple[Annotated[str, AfterValidator(_address)], ...] = ()
    """model-registry=http://HOST:PORT or mlflow=http://HOST:PORT."""
    name: str | None = Field(None, pattern=r"^\w[\w.-]*$")
    """Of the registered model; made of the registry's URI where there is none."""
