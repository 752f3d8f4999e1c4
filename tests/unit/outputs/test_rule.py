"""What is ours, what is half-made, what stands in a store, and places that no output may take."""

from __future__ import annotations

import json
import pwd
from collections.abc import Callable
from pathlib import Path

import pytest

from tspin.errors import InputError
from tspin.outputs import (
    Recognition,
    artifact_folder,
    check_output,
    checkpoint_folder,
    comparison_folder,
    history_folder,
    made_from,
    never_ours,
    registry_folder,
    run_folder,
)
from tspin.records.manifest import (
    Manifest,
    announce,
    forget,
    is_current,
    making_path,
    manifest_path,
    write_manifest,
)
from tspin.store import output_at
from tspin_components.artifacts import MODEL, RESPONSES, output_in

OURS = made_from("responses", annotated="a")
MADE = Manifest(kind="responses", inputs={"annotated": "a"})


def make(out: Path, text: str = "kept\n", manifest: Manifest | None = MADE) -> Path:
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text)
    if manifest is not None:
        write_manifest(out, manifest)
    return out


def test_a_killed_step_finds_what_it_took_the_manifest_off(tmp_path: Path) -> None:
    out = make(tmp_path / "out.jsonl")
    forget(out)
    assert not is_current(out, MADE)
    check_output(out, OURS)
    write_manifest(out, MADE)
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        "out.jsonl",
        "out.jsonl.manifest.json",
    ]


def test_a_step_killed_before_its_first_manifest_finds_its_output(tmp_path: Path) -> None:
    out = make(tmp_path / "out.jsonl", manifest=None)
    with pytest.raises(InputError, match="nothing says that tspin made it"):
        check_output(out, OURS)
    announce(out)
    check_output(out, OURS)
    write_manifest(out, MADE)
    assert not making_path(out).exists()


def test_what_a_killed_generation_or_evaluation_began_is_ours(tmp_path: Path) -> None:
    out = make(tmp_path / "out.jsonl", manifest=None)
    (tmp_path / ".out.jsonl.begun.json").write_text("{}")
    check_output(out, OURS)


def test_other_parameters_make_the_same_output_anew(tmp_path: Path) -> None:
    out = make(tmp_path / "out.jsonl", manifest=MADE.model_copy(update={"seed": 7}))
    check_output(out, OURS)
    for values in ({"annotated": "b"}, {"model": "m"}, {"iteration": 1}):
        check_output(out, made_from("responses", **dict.fromkeys(values)))
    write_manifest(out, MADE.model_copy(update={"model": "other", "iteration": 0}))
    for values in ({"annotated": "b"}, {"model": "m"}, {"iteration": 1}):
        (name,) = values
        with pytest.raises(InputError, match=f"was made from another {name}"):
            check_output(out, made_from("responses", **values))


def test_a_shard_is_not_another_shard(tmp_path: Path) -> None:
    out = make(tmp_path / "out.jsonl", manifest=MADE.model_copy(update={"parameters": {}}))
    check_output(out, made_from("responses", annotated="a", shard="0/1"))
    with pytest.raises(InputError, match="another shard"):
        check_output(out, made_from("responses", annotated="a", shard="1/4"))


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_of_that_name_that_is_no_manifest_stays(tmp_path: Path, overwrite: bool) -> None:
    out = tmp_path / "out.jsonl"
    taken = make(manifest_path(out), "mine", manifest=None)
    if not overwrite:
        with pytest.raises(InputError, match="is there already and is none"):
            check_output(out, OURS, overwrite=overwrite)
        assert taken.read_text() == "mine"
        return
    check_output(out, OURS, overwrite=overwrite)
    (aside,) = tmp_path.iterdir()
    assert aside.read_text() == "mine"
    assert aside.name.startswith("out.jsonl.replaced-")


def test_a_file_that_the_user_put_into_our_model_is_not_lost(tmp_path: Path) -> None:
    out = tmp_path / "model"
    for name in ("config.json", "model.safetensors", "README.md", "chat_template.jinja"):
        make(out / name, manifest=None)
    write_manifest(out, Manifest(kind="model"))
    check_output(out, made_from("model"), folder=True)
    make(out / "notes.txt", manifest=None)
    with pytest.raises(InputError, match=r"belong to no model of ours: notes\.txt"):
        check_output(out, made_from("model"), folder=True)


@pytest.mark.parametrize(
    ("ours", "names"),
    [
        (run_folder, ["inputs.json", ".lock"]),
        (run_folder, ["proto.jsonl", "proto.jsonl.manifest.json"]),
        (run_folder, ["iter-0/train_log.jsonl"]),
        (run_folder, ["base/metrics.json.manifest.json"]),
        (comparison_folder, ["seed-0/tspin/config.json", "data/annotated-0.5.jsonl"]),
        (comparison_folder, [".lock"]),
        (registry_folder, ["models/a/files.json"]),
        (registry_folder, ["data/a.jsonl"]),
        (checkpoint_folder, ["key.json", "checkpoint-10/complete.json"]),
        (checkpoint_folder, ["lock"]),
        (history_folder, ["models.json", "config.json"]),
        (artifact_folder("metrics.json"), ["metrics.json", "metrics.greedy.jsonl"]),
    ],
)
def test_what_a_killed_run_leaves_is_continued(
    tmp_path: Path, ours: Recognition, names: list[str]
) -> None:
    out = tmp_path / "out"
    for name in names:
        make(out / name, manifest=None)
    check_output(out, ours, folder=True)


@pytest.mark.parametrize(
    ("ours", "names"),
    [
        (run_folder, ["proto.jsonl"]),
        (run_folder, ["annotated.jsonl", "annotated.jsonl.manifest.json"]),
        (run_folder, ["inputs.json", "notes.txt"]),
        (comparison_folder, ["data/annotated.jsonl"]),
        (registry_folder, ["data/a.jsonl", "notes.txt"]),
        (checkpoint_folder, ["checkpoint-10/model.safetensors"]),
        (history_folder, ["config.json"]),
        (artifact_folder("metrics.json"), ["metricsfile"]),
    ],
)
def test_what_only_looks_like_it_is_not_ours(
    tmp_path: Path, ours: Recognition, names: list[str]
) -> None:
    out = tmp_path / "out"
    for name in names:
        make(out / name, manifest=None)
    with pytest.raises(InputError, match="holds"):
        check_output(out, ours, folder=True)


def test_a_model_is_no_run_folder(tmp_path: Path) -> None:
    make(tmp_path / "out/config.json", json.dumps({"model_type": "llama"}), manifest=None)
    with pytest.raises(InputError, match=r"config\.json that is not a run's"):
        check_output(tmp_path / "out", run_folder, folder=True)


def test_a_run_folder_of_ours_may_hold_its_data(tmp_path: Path) -> None:
    values = {"run_dir": "r", "iterations": 1, "model": {}, "data": {}}
    data = make(tmp_path / "out/data/annotated.jsonl", manifest=None)
    with pytest.raises(InputError, match="holds the input"):
        check_output(tmp_path / "out", run_folder, folder=True, grows=True, inputs=[data])
    make(tmp_path / "out/config.json", json.dumps(values), manifest=None)
    check_output(tmp_path / "out", run_folder, folder=True, grows=True, inputs=[data])


@pytest.mark.parametrize("overwrite", [None, True])
def test_an_input_by_another_name_is_refused(tmp_path: Path, overwrite: bool | None) -> None:
    source = make(tmp_path / "in.jsonl")
    (tmp_path / "hard.jsonl").hardlink_to(source)
    (tmp_path / "link").symlink_to(tmp_path)
    for out in (tmp_path / "hard.jsonl", tmp_path / "link/in.jsonl", tmp_path / "x/../in.jsonl"):
        with pytest.raises(InputError, match="is the input"):
            check_output(out, OURS, inputs=[source], overwrite=overwrite)
    assert source.read_text() == "kept\n"


def test_a_file_beside_the_output_is_no_input(tmp_path: Path) -> None:
    source = make(tmp_path / "metrics.samples.jsonl")
    with pytest.raises(InputError, match=r"with it metrics\.samples\.jsonl is written"):
        check_output(tmp_path / "metrics.json", OURS, inputs=[source], beside=[source])
    with pytest.raises(InputError, match=r"with it a\.manifest\.json is written"):
        check_output(tmp_path / "a", OURS, inputs=[manifest_path(tmp_path / "a")])


def test_the_folder_that_the_command_runs_in_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for out in (".", "..", str(tmp_path)):
        with pytest.raises(InputError, match="folder that this command runs in"):
            check_output(out, never_ours, folder=True, overwrite=True)


def test_a_name_on_the_hub_is_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check_output("org/model", never_ours, folder=True, inputs=["org/model"])


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Names in a store that is a folder; what is made for it has a cache of its own."""
    monkeypatch.setenv("TSPIN_CACHE", str(tmp_path / "cache"))
    return lambda name: f"file://{tmp_path}/store/{name}"


def test_objects_of_others_in_a_store_stay(tmp_path: Path, remote: Callable[[str], str]) -> None:
    make(tmp_path / "store/out.jsonl", manifest=None)
    make(tmp_path / "store/model/notes.txt", manifest=None)
    with pytest.raises(InputError, match="nothing says that tspin made it"):
        check_output(remote("out.jsonl"), OURS)
    with pytest.raises(InputError, match="nothing says that tspin made it"):
        check_output(remote("model"), made_from("model"), folder=True)
    with pytest.raises(InputError, match="is the input"):
        check_output(remote("out.jsonl"), OURS, inputs=[remote("out.jsonl")], overwrite=True)
    with pytest.raises(InputError, match="stands inside the input"):
        check_output(remote("model/a"), OURS, inputs=[remote("model")])
    check_output(remote("model2"), made_from("model"), folder=True, inputs=[remote("model")])


def test_an_output_in_a_store_is_known_by_its_manifest(remote: Callable[[str], str]) -> None:
    for _ in range(2):
        check_output(remote("out.jsonl"), OURS)
        with output_at(remote("out.jsonl")) as output:
            make(output.path)
    with pytest.raises(InputError, match="was made from another annotated"):
        check_output(remote("out.jsonl"), made_from("responses", annotated="b"))


def test_an_upload_that_was_killed_is_ours(
    tmp_path: Path, remote: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tspin.store.folder import FolderStore

    upload = FolderStore.upload

    def killed(store: FolderStore, path: Path, key: str) -> None:
        if key.endswith(".manifest.json"):
            raise KeyboardInterrupt
        upload(store, path, key)

    with monkeypatch.context() as patched:
        patched.setattr(FolderStore, "upload", killed)
        with pytest.raises(KeyboardInterrupt), output_at(remote("out.jsonl")) as output:
            make(output.path)
    assert (tmp_path / "store/out.jsonl").is_file()
    assert not (tmp_path / "store/out.jsonl.manifest.json").exists()
    check_output(remote("out.jsonl"), OURS)
    with output_at(remote("out.jsonl")):
        pass
    assert [path.name for path in sorted((tmp_path / "store").iterdir())] == [
        "out.jsonl",
        "out.jsonl.manifest.json",
    ]


def test_what_is_in_the_way_in_a_store_is_moved(
    tmp_path: Path, remote: Callable[[str], str]
) -> None:
    store = tmp_path / "store"
    make(store / "model/notes.txt", "mine", manifest=None)
    make(store / "model/below/notes.txt", "mine too", manifest=None)
    check_output(remote("model"), made_from("model"), folder=True, overwrite=True)
    (aside,) = store.glob("model.replaced-*Z")
    assert (aside / "notes.txt").read_text() == "mine"
    assert (aside / "below/notes.txt").read_text() == "mine too"
    assert not [path for path in (store / "model").rglob("*") if path.is_file()]


@pytest.mark.parametrize("name", [RESPONSES, MODEL])
def test_a_component_takes_an_empty_folder_and_its_own(tmp_path: Path, name: str) -> None:
    artifact = tmp_path / "artifact"
    artifact.mkdir()
    out = output_in(str(artifact), name)
    make(out)
    make(artifact / f".{name}.partial.jsonl", manifest=None)
    assert output_in(str(artifact), name) == out
    make(artifact / "notes.txt", manifest=None)
    with pytest.raises(InputError, match=r"holds other files: notes\.txt"):
        output_in(str(artifact), name)


def test_a_user_that_the_system_does_not_know_has_no_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(number: int) -> object:
        raise KeyError(number)

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    check_output(tmp_path / "new", never_ours)
