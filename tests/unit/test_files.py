import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tspin.files import atomic_file, atomic_folder, sha256_folder, write_json


def test_a_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.txt"
    with atomic_file(path) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in path.parent.iterdir()] == ["a.txt"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match="half way"), atomic_file(path) as file:
        file.write(b"half")
        raise ValueError("half way")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")
    with (
        pytest.raises(OSError, match="No space left"),
        atomic_file(path) as file,
        Path("/dev/full").open("wb", buffering=0) as full,
    ):
        full.write(file.name.encode())
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_sigkill_leaves_the_old_content(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "out"
    if kind == "file":
        target.write_bytes(b"old")
    else:
        target.mkdir()
        (target / "old").write_bytes(b"old")
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        f"from tspin.files import atomic_{kind} as atomic\n"
        "with atomic(Path(sys.argv[1])) as out:\n"
        "    (out if hasattr(out, 'write') else (out / 'new').open('wb')).write(b'half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(target)])
    assert done.returncode == -signal.SIGKILL
    old = target if kind == "file" else target / "old"
    assert old.read_bytes() == b"old"
    # The next writer takes over what the killed one left behind.
    if kind == "file":
        write_json(target, {"a": 1})
    else:
        with atomic_folder(target) as folder:
            (folder / "new").write_bytes(b"new")
        assert [entry.name for entry in target.iterdir()] == ["new"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_a_folders_hash_sees_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"1")
    first = sha256_folder(tmp_path, "*.safetensors")
    (tmp_path / "notes.txt").write_bytes(b"irrelevant")
    assert sha256_folder(tmp_path, "*.safetensors") == first
    (tmp_path / "a.safetensors").write_bytes(b"2")
    second = sha256_folder(tmp_path, "*.safetensors")
    (tmp_path / "a.safetensors").rename(tmp_path / "b.safetensors")
    assert len({first, second, sha256_folder(tmp_path, "*.safetensors")}) == 3
