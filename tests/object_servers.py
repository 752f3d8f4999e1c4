"""Google Cloud and Azure Blob Storage on loopback, with the settings of a client for them.

Blob Storage is Azurite, Microsoft's own emulator, where TSPIN_AZURITE names its command (`make
test-s3`). Of Cloud Storage's XML interface, which obstore speaks, there is no emulator: moto
answers, whose S3 has the same requests, behind what Google's documentation says is different: the
condition `x-goog-if-generation-match: 0`, and the names of metadata.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import subprocess
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import boto3
import pytest
import urllib3

from tests.moto_server import Application, moto_server
from tests.ports import free_port

__all__ = ["AZURITE", "az_container", "gs_bucket"]

AZURITE = os.environ.get("TSPIN_AZURITE")
_ACCOUNT = "devstoreaccount1"
_KEY = (  # Of every emulator: learn.microsoft.com, "Use the Azurite emulator".
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)

_SIGNED = "AWS4-HMAC-SHA256 Credential=id/20260101/us-east-1/s3/aws4_request, Signature=0"
"""By which moto knows that S3 is meant."""


def _as_google(app: Application) -> Application:
    def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("HTTP_AUTHORIZATION", "Bearer").startswith("Bearer"):
            environ["HTTP_AUTHORIZATION"] = _SIGNED
        environ["RAW_URI"] = unquote(environ["RAW_URI"])  # moto compares as AWS encodes.
        generation = environ.pop("HTTP_X_GOOG_IF_GENERATION_MATCH", None)
        if generation is not None:
            assert generation == "0"
            environ["HTTP_IF_NONE_MATCH"] = "*"
        for name in [name for name in environ if name.startswith("HTTP_X_GOOG_META_")]:
            environ[name.replace("GOOG", "AMZ")] = environ.pop(name)

        def translated(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            named = [
                (name.replace("x-amz-meta-", "x-goog-meta-"), value) for name, value in headers
            ]
            return start(status, [*named, ("x-goog-generation", "1")], *more)

        return app(environ, translated)

    return answer


@contextmanager
def gs_bucket() -> Iterator[str]:
    """A new bucket, `gs://NAME`."""
    name = f"bucket-{uuid.uuid4().hex}"  # All servers of a process share one state.
    with moto_server(_as_google) as url, pytest.MonkeyPatch.context() as patch:
        keys = {"aws_access_key_id": "id", "aws_secret_access_key": "secret"}
        s3 = boto3.client("s3", endpoint_url=url, region_name="us-east-1", **keys)
        s3.create_bucket(Bucket=name)
        key = {"gcs_base_url": url, "disable_oauth": True, "private_key_id": ""}
        key |= {"client_email": "", "private_key": ""}
        patch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", json.dumps(key))
        yield f"gs://{name}"


@contextmanager
def az_container(folder: Path) -> Iterator[str]:
    """A new container of a server of its own, `az://NAME`."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [
        str(AZURITE),
        "--blobHost",
        "127.0.0.1",
        "--blobPort",
        str(port),
        "--inMemoryPersistence",
    ]
    server = subprocess.Popen(
        [*command, "--skipApiVersionCheck"], cwd=folder, stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        assert any("successfully listens" in line for line in server.stdout), "it did not start"
        _create_container(url, "container")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AZURITE_BLOB_STORAGE_URL", url)
            patch.setenv("AZURE_STORAGE_USE_EMULATOR", "true")
            yield "az://container"
    finally:
        server.terminate()
        server.communicate()


def _create_container(url: str, name: str) -> None:
    date = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    headers = {"x-ms-date": date, "x-ms-version": "2021-08-06"}
    place = f"/{_ACCOUNT}/{_ACCOUNT}/{name}\nrestype:container"
    signed = "PUT" + "\n" * 12 + "".join(f"{k}:{v}\n" for k, v in headers.items()) + place
    digest = hmac.digest(base64.b64decode(_KEY), signed.encode(), hashlib.sha256)
    headers["Authorization"] = f"SharedKey {_ACCOUNT}:{base64.b64encode(digest).decode()}"
    address = f"{url}/{_ACCOUNT}/{name}?restype=container"
    assert urllib3.request("PUT", address, headers=headers).status == 201
