"""An image of a model: the same for the same files, and readable by whoever unpacks layers."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from tests.registry_models import make_model
from tspin.export.image import MODEL, Image, ModelLayer


def _index(folder: Path) -> str:
    return Image(folder, "a" * 64).index().digest


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = make_model(tmp_path / "model", 1)
    (folder / "original").mkdir()
    (folder / "original/params.json").write_text("{}")
    return folder


def test_equal_models_have_equal_digests_whatever_the_machine_says_of_them(
    model: Path, tmp_path: Path
) -> None:
    other = tmp_path / "elsewhere/other"
    (other / "original").mkdir(parents=True)
    for path in sorted(model.rglob("*"), reverse=True):
        if path.is_file():
            copy = other / path.relative_to(model)
            copy.write_bytes(path.read_bytes())
            copy.chmod(0o600)
            os.utime(copy, (1, 1))
    assert _index(other) == _index(model)
    (other / "tokenizer.json").write_text("[]")
    assert _index(other) != _index(model)


def test_the_layers_are_the_model_below_models(model: Path, tmp_path: Path) -> None:
    for layer in Image(model, "a" * 64).layers:
        with layer.open() as stream:
            content = stream.read()
        assert len(content) == layer.size
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            for entry in tar:
                assert (entry.uid, entry.gid, entry.mtime) == (0, 0, 0)
                assert entry.mode == (0o755 if entry.isdir() else 0o644)
            tar.extraction_filter = getattr(tarfile, "data_filter", None)  # From 3.11.4 on.
            tar.extractall(tmp_path / "out")  # noqa: S202  # made above
    files = {p.relative_to(model): p.read_bytes() for p in model.rglob("*") if p.is_file()}
    out = tmp_path / "out/models"
    assert {p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file()} == files


def test_each_file_of_weights_is_a_layer_and_the_small_ones_come_first(model: Path) -> None:
    for number in (1, 2):
        (model / f"part-{number}.safetensors").write_bytes(bytes(number))
    small, *weights = Image(model, "a" * 64).layers
    assert small.names == ["config.json", "original/params.json", "tokenizer.json"]
    assert [layer.names for layer in weights] == [
        ["model.safetensors"],
        ["part-1.safetensors"],
        ["part-2.safetensors"],
    ]


def test_the_manifests_name_base_and_model_for_each_architecture(model: Path) -> None:
    image = Image(model, "a" * 64)
    index = json.loads(image.index().content)
    assert index["annotations"][MODEL] == "a" * 64
    platforms = [entry["platform"]["architecture"] for entry in index["manifests"]]
    assert platforms == ["amd64", "arm64"]
    bases = [blob.digest for blob in image.base_layers()]
    for number, (manifest, config) in enumerate(
        zip(image.manifests(), image.configs(), strict=True)
    ):
        described = json.loads(manifest.content)
        assert index["manifests"][number]["digest"] == manifest.digest
        layers = [layer["digest"] for layer in described["layers"]]
        assert layers == [bases[number], *(layer.digest for layer in image.layers)]
        assert described["config"]["digest"] == config.digest
        made = json.loads(config.content)
        # One history entry for each layer, as whoever assembles the image counts them.
        filled = [entry for entry in made["history"] if not entry.get("empty_layer")]
        assert len(made["rootfs"]["diff_ids"]) == len(layers) == len(filled)


def test_a_long_name_and_a_stream_that_begins_anew(tmp_path: Path) -> None:
    name = f"{'d' * 90}/{'f' * 90}.json"
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).write_bytes(b"x" * 5000)
    layer = ModelLayer(tmp_path, [name])
    stream = layer.open()
    first = stream.read()
    assert stream.tell() == layer.size
    stream.seek(0)
    assert stream.read() == first
    assert stream.seek(0, io.SEEK_END) == layer.size
    assert stream.read() == b""
    with tarfile.open(fileobj=io.BytesIO(first)) as tar:
        assert tar.getnames()[-1] == f"models/{name}"
