"""No mirror blocks a promotion or undoes it; the command that a warning names repairs it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import tspin.mirrors.following as following
from tests.model_registry_server import ModelRegistryServer
from tests.registry_models import METRIC, make_candidate
from tests.unit.mirrors.conftest import Promote
from tspin.cli.main import app
from tspin.errors import GateRefusedError, InputError, TspinError
from tspin.mirrors.following import Mirrors, mirrored
from tspin.registry import Registry, promote


def _command(tmp_path: Path, number: int, *options: str) -> list[str]:
    folder = tmp_path / str(number)
    if not folder.exists():
        make_candidate(folder, number, 0.1 * number)
    command = ["promote", "--candidate", str(folder / "model"), "--metric", METRIC]
    command += ["--metrics", str(folder / "metrics.json"), "--direction", "max"]
    return [*command, "--registry", str(tmp_path / "registry"), *options]


def _warning(text: str) -> list[str]:
    """The command that a warning names."""
    (named,) = [line for line in text.splitlines() if "tspin registry sync" in line]
    return shlex.split(named.partition("tspin registry sync")[2])


def test_a_mirror_that_is_down_costs_a_warning_whose_command_repairs_it(
    tmp_path: Path,
    server: ModelRegistryServer,
    registry: str,
    promoted: Promote,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    promoted(1, server.mirror)
    server.stop()
    monkeypatch.setattr(following, "PATIENCE", 0.5)
    options = ["--mirror", server.mirror, "--mirror-name", "registry"]
    done = CliRunner().invoke(app, _command(tmp_path, 2, *options), catch_exceptions=False)
    assert done.exit_code == 0
    champion = Registry(registry).champion()
    assert champion is not None
    assert champion.number == 2
    repair = ["registry", "sync", *_warning(caplog.text)]
    assert repair[2:] == ["--registry", registry, *options]
    with pytest.raises(TspinError, match=server.mirror) as failed:
        CliRunner().invoke(app, repair, catch_exceptions=False)
    assert failed.value.exit_code == 1
    server.start()
    monkeypatch.setattr(following, "PATIENCE", 60.0)
    mended = CliRunner().invoke(app, repair, catch_exceptions=False)
    assert f"{server.mirror}: champion: {champion.model}" in mended.stdout
    assert server.flagged() == [champion.model]
    again = CliRunner().invoke(app, repair, catch_exceptions=False)
    assert again.stdout == f"{server.mirror}: up to date\n"


def test_a_mirror_that_comes_back_in_time_is_told(
    server: ModelRegistryServer, promoted: Promote, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.stop()
    failures: list[Exception] = []
    told = following._told

    def heard(error: Exception) -> str:
        if not failures:
            server.start()
        failures.append(error)
        return told(error)

    monkeypatch.setattr(following, "_told", heard)
    record = promoted(1, server.mirror)
    assert failures
    assert server.flagged() == [record.model]


def test_a_mirror_that_hangs_is_not_waited_for(
    server: ModelRegistryServer,
    promoted: Promote,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(following, "PATIENCE", 0.1)
    server.hold(lambda *_: True)
    record = promoted(1, server.mirror)
    assert record.number == 1
    assert "not done within" in caplog.text
    assert server.held.wait(60)


def test_a_call_without_an_answer_is_said_in_words(
    server: ModelRegistryServer,
    promoted: Promote,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tspin.mirrors.model_registry.SECONDS", 0.05)
    monkeypatch.setattr(following, "_FIRST", 100.0)  # One try.
    server.hold(lambda method, *_: method == "POST")
    promoted(1, server.mirror)
    assert "no answer within" in caplog.text


@pytest.mark.parametrize(
    "held",
    [
        ("POST", "model_versions"),
        ("POST", "model_versions/*/artifacts"),
        ("PATCH", "model_versions/*"),
    ],
    ids=" ".join,
)
def test_killed_in_the_middle_it_is_repaired(
    tmp_path: Path, server: ModelRegistryServer, registry: str, held: tuple[str, str]
) -> None:
    def holds(method: str, path: str, _: Any) -> bool:
        parts = path.split("/")
        shown = "/".join(["*" if part.isdecimal() else part for part in parts])
        return (method, shown) == held

    server.hold(holds)
    command = [sys.executable, "-m", "tspin", *_command(tmp_path, 1, "--mirror", server.mirror)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert server.held.wait(300)
    process.kill()
    process.wait()
    champion = Registry(registry).champion()
    assert champion is not None
    server.stop()  # Lets go of what is held: nobody waits for its answer.
    server.start()
    list(Mirrors.of(registry, [server.mirror]).sync())
    assert server.flagged() == [champion.model]
    assert [a["uri"].rpartition("/")[2] for a in server.artifacts.values()] == [champion.model]
    assert server.property(server.model("registry"), "champion") == champion.model


def test_the_newer_of_two_promotions_is_the_champion_whichever_mirrors_last(
    server: ModelRegistryServer, registry: str, promoted: Promote
) -> None:
    promoted(1, server.mirror)
    server.hold(lambda method, path, _: method == "PATCH")
    older = threading.Thread(target=promoted, args=(2, server.mirror))
    older.start()
    assert server.held.wait(300)
    newer = promoted(3)  # Its mirror is not told: only the older one's try is.
    server._release.set()
    older.join()
    assert server.flagged() == [newer.model]


def test_the_mirrors_after_one_that_is_down_are_brought_up_to_date(
    server: ModelRegistryServer, registry: str, promoted: Promote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "PATIENCE", 0.0)
    other = ModelRegistryServer()
    record = promoted(1)
    lines = Mirrors.of(registry, [other.mirror, server.mirror]).sync()
    with pytest.raises(TspinError, match=other.mirror):
        list(lines)
    assert server.flagged() == [record.model]


def test_a_refused_promotion_tells_no_mirror(
    server: ModelRegistryServer, promoted: Promote
) -> None:
    promoted(2)
    with pytest.raises(GateRefusedError):
        promoted(1, server.mirror)
    assert not server.calls


@pytest.mark.parametrize(
    ("mirrors", "name", "message"),
    [
        (["elsewhere=http://mr.test"], None, "expected model-registry="),
        (["mlflow=http://mlflow.test"], None, "MLflow takes no model from a folder"),
        (["model-registry=http://mr.test"], "a/b", "--mirror-name"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_done(
    tmp_path: Path, registry: str, mirrors: list[str], name: str | None, message: str
) -> None:
    model, metrics = make_candidate(tmp_path / "1", 1, 0.5)
    with pytest.raises(InputError, match=message), mirrored(registry, mirrors, name):
        promote(model, metrics=metrics, registry=registry, metric=METRIC, direction="max")
    assert not Path(registry).exists()


def test_mirrors_come_from_the_environment_of_ci(
    tmp_path: Path, server: ModelRegistryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TSPIN_MIRRORS", server.mirror)
    monkeypatch.setenv("TSPIN_MIRROR_NAME", "answers")
    runner = CliRunner()
    runner.invoke(app, _command(tmp_path, 1), catch_exceptions=False)
    (first,) = server.flagged()
    runner.invoke(app, _command(tmp_path, 2), catch_exceptions=False)
    assert server.flagged() != [first]
    options = ["rollback", "--registry", str(tmp_path / "registry")]
    runner.invoke(app, options, catch_exceptions=False)
    assert server.flagged() == [first]
    assert server.model("answers")


def test_a_promotion_without_mirrors_imports_no_client(tmp_path: Path) -> None:
    script = (
        "import sys; from tspin.cli.main import app; app(sys.argv[1:], standalone_mode=False); "
        "sys.exit(bool({'mlflow', 'mr_openapi', 'aiohttp', 'asyncio'} & {*sys.modules}))"
    )
    command = [sys.executable, "-c", script, *_command(tmp_path, 1)]
    done = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "champion 1" in done.stdout
