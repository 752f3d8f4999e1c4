"""What whoever looks in between sees of an output that is being put in its place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tspin.errors import TspinError
from tspin.records.manifest import journal_path
from tspin.records.seconds import seconds_path
from tspin.store import output_at
from tspin.store.folder import FolderStore


class Breaking:
    """A network that is gone from one change of the store on."""

    def __init__(self, after: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = after
        for name in ("upload", "delete"):
            monkeypatch.setattr(FolderStore, name, self._counted(getattr(FolderStore, name)))

    def _counted(self, change: object) -> object:
        def counted(store: FolderStore, *args: object) -> object:
            if self.left == 0:
                raise TspinError("the network is gone")
            self.left -= 1
            return change(store, *args)  # type: ignore[operator]

        return counted


def publish(location: str, content: str) -> None:
    with output_at(location) as output:
        output.path.with_name("y.jsonl.manifest.json").write_text(content)
        output.path.write_text(content)


def test_where_the_time_of_a_run_went_is_published_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TSPIN_CACHE", str(tmp_path / "cache"))
    with output_at(f"file://{tmp_path}/store/run") as output:
        model = output.path / "iter-0/model"
        model.mkdir(parents=True)
        for path in (seconds_path(model), journal_path(model), model / "config.json"):
            path.write_text("{}")
    files = (path for path in (tmp_path / "store").rglob("*") if path.is_file())
    assert {path.name for path in files} == {".model.seconds.json", "config.json"}


@pytest.mark.parametrize("changes", range(5))
def test_a_manifest_is_never_seen_beside_another_output(
    changes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TSPIN_CACHE", str(tmp_path / "cache"))
    there = tmp_path / "store"
    location = f"file://{there}/y.jsonl"
    publish(location, "earlier")
    with monkeypatch.context() as patch:
        network = Breaking(changes, patch)
        if changes < 4:
            with pytest.raises(TspinError, match="network is gone"):
                publish(location, "later")
        else:  # The manifest goes, two uploads, the mark of an upload on its way goes.
            publish(location, "later")
        assert network.left == 0
    output, manifest = there / "y.jsonl", there / "y.jsonl.manifest.json"
    assert output.read_text() == ("earlier" if changes < 2 else "later")
    assert manifest.exists() == (changes in (0, 3, 4))
    publish(location, "later")
    assert output.read_text() == manifest.read_text() == "later"


def test_work_may_go_on_while_what_is_finished_is_pushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the work does between two looks, no manifest comes without its output."""
    monkeypatch.setenv("TSPIN_CACHE", str(tmp_path / "cache"))
    there = tmp_path / "store/run"
    looks = Path.rglob

    def rglob(folder: Path, pattern: str) -> Iterator[Path]:
        yield from list(looks(folder, pattern))
        for name in ("later.jsonl", "later.jsonl.manifest.json"):
            (folder / "run" / name).write_text("later")
        (folder / "run/stale.jsonl").unlink(missing_ok=True)

    with output_at(f"file://{there}") as output:
        output.path.mkdir()
        for name in ("y.jsonl", "y.jsonl.manifest.json", "stale.jsonl"):
            (output.path / name).write_text("now")
        with monkeypatch.context() as patch:
            patch.setattr(Path, "rglob", rglob)
            output.push()
        assert {path.name for path in there.iterdir()} >= {"y.jsonl", "y.jsonl.manifest.json"}
        assert not (there / "later.jsonl.manifest.json").exists()
        assert not (there / "stale.jsonl").exists()
    assert (there / "later.jsonl.manifest.json").read_text() == "later"
