"""A champion as an image, pushed to a real registry, and pulled by podman."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.containers.podman import Podman
from tests.image_registry import PASSWORD, USER, ImageRegistry, TokenServer, need_registry
from tests.ports import served
from tests.registry_models import METRIC, make_candidate
from tspin.cli.main import app
from tspin.errors import TspinError
from tspin.registry import Record, Registry, promote

pytestmark = pytest.mark.containers


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No credentials of the machine."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    return tmp_path / "home"


@pytest.fixture
def images(tmp_path: Path) -> Iterator[ImageRegistry]:
    made = ImageRegistry(tmp_path / "images")
    made.start()
    yield made
    made.stop()


@pytest.fixture
def champion(tmp_path: Path) -> Record:
    """The second of two in `tmp_path / "registry"`."""
    for number in (1, 2):
        model, metrics = make_candidate(tmp_path / str(number), number, 0.1 * number)
        (model / "original").mkdir()
        (model / "original/params.json").write_text(f"{number}")
        record = promote(
            model,
            metrics=metrics,
            registry=str(tmp_path / "registry"),
            metric=METRIC,
            direction="max",
            by="me",
        )
    return record


@pytest.fixture
def export(tmp_path: Path, champion: Record) -> Callable[..., str]:
    """Push the champion; what the command prints."""

    def export(reference: str, *options: str) -> str:
        command = ["export", "--registry", str(tmp_path / "registry"), "--oci", reference]
        done = CliRunner().invoke(app, [*command, *options], catch_exceptions=False)
        return done.stdout.strip()

    return export


def _login(folder: Path, host: str, password: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    auth = base64.b64encode(f"{USER}:{password}".encode()).decode()
    (folder / "config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))


def _files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_podman_pulls_the_files_of_the_champion(
    podman: Podman,
    images: ImageRegistry,
    tmp_path: Path,
    champion: Record,
    export: Callable[..., str],
) -> None:
    printed = export(f"{images.host}/team/model:one")
    repository, _, digest = printed.removeprefix("oci://").partition("@")
    assert repository == f"{images.host}/team/model"
    assert images.digest("team/model", "one") == digest
    image = f"{repository}@{digest}"
    policy = f"--signature-policy={podman.folder / 'policy.json'}"
    podman.call("pull", "--quiet", "--tls-verify=false", policy, image)
    mounted = Path(podman.call("image", "mount", image).stdout.strip())
    try:
        assert _files(mounted / "models") == _files(tmp_path / "2/model")
        (program,) = podman.inspect(image)["Config"]["Entrypoint"]  # What a modelcar starts.
        assert os.access(f"{mounted}{program}", os.X_OK)
    finally:
        podman.call("image", "umount", image)
        podman.call("image", "rm", "--force", image)
    (note,) = Registry(str(tmp_path / "registry")).images.of(champion.model)
    assert note.image == image


def test_an_equal_model_has_an_equal_digest_and_is_not_sent_again(
    images: ImageRegistry, tmp_path: Path, champion: Record, export: Callable[..., str]
) -> None:
    first = export(f"{images.host}/team/model:one")
    stored = {p: p.stat().st_mtime_ns for p in (tmp_path / "images").rglob("blobs/**/data")}
    assert export(f"{images.host}/team/model") == first
    assert images.digest("team/model", champion.model[:12]) == first.partition("@")[2]
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "images").rglob("blobs/**/data")} == stored
    assert len(Registry(str(tmp_path / "registry")).images.of(champion.model)) == 1
    assert export(f"{images.host}/team/model:earlier", "--number", "1") != first


@pytest.mark.parametrize("variable", [True, False], ids=["DOCKER_CONFIG", "home"])
def test_credentials_are_those_of_docker(
    tmp_path: Path,
    home: Path,
    export: Callable[..., str],
    variable: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = ImageRegistry.with_passwords(tmp_path / "images")
    images.start()
    folder = home / ".docker"
    if variable:
        _login(folder, images.host, "wrong")
        folder = tmp_path / "docker"
        monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    else:
        with pytest.raises(TspinError, match="wants a user and a password"):
            export(f"{images.host}/team/model:one")
    _login(folder, images.host, "a-wrong-password")
    with pytest.raises(TspinError, match=r"denied .*config\.json") as denied:
        export(f"{images.host}/team/model:one")
    assert "a-wrong-password" not in str(denied.value)
    _login(folder, images.host, PASSWORD)
    export(f"{images.host}/team/model:one")
    assert images.digest("team/model", "one")
    images.stop()


def test_a_token_for_reading_is_exchanged_for_one_that_may_push(
    tmp_path: Path, home: Path, export: Callable[..., str]
) -> None:
    need_registry()
    tokens, settings = TokenServer.made(tmp_path)
    with served(tokens) as url:
        images = ImageRegistry(tmp_path / "images", {"token": {"realm": url, **settings}})
        images.start()
        with pytest.raises(TspinError, match="denied"):
            export(f"{images.host}/team/model:one")
        _login(home / ".docker", images.host, PASSWORD)
        export(f"{images.host}/team/model:one")
        images.stop()
    assert "repository:team/model:pull,push" in tokens.asked


_KILLED = """
import os, signal, sys
from tspin.cli.main import app
from tspin.export.oci import _Registry

where = sys.argv.pop(1)
upload, put = _Registry.upload, _Registry.put_manifest

def killed_at(place):
    if place == where:
        os.kill(os.getpid(), signal.SIGKILL)

def upload_or_die(self, blob):
    killed_at(blob.media_type.rpartition(".")[2])
    upload(self, blob)

def put_or_die(self, manifest, name):
    killed_at("platform" if name.startswith("sha256:") else "tag")
    put(self, manifest, name)

_Registry.upload, _Registry.put_manifest = upload_or_die, put_or_die
app(sys.argv[1:])
"""


@pytest.mark.parametrize("where", ["v1+json", "platform", "tag"])
def test_killed_before_its_end_nothing_stands_under_the_tag(
    images: ImageRegistry,
    tmp_path: Path,
    champion: Record,
    export: Callable[..., str],
    where: str,
) -> None:
    options = ["--registry", str(tmp_path / "registry"), "--oci", f"{images.host}/team/model:one"]
    command = [sys.executable, "-c", _KILLED, where, "export", *options]
    assert subprocess.run(command, env=dict(os.environ)).returncode == -9
    assert images.digest("team/model", "one") is None
    assert not Registry(str(tmp_path / "registry")).images.of(champion.model)
    export(f"{images.host}/team/model:one")
    assert images.digest("team/model", "one")
