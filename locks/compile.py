"""Writes and checks the locks: every package of each image by version and hash (`make locks`).

constraints.txt is the tested set; a lock keeps its versions wherever an image's requirements allow
them, and is made for Linux on x86-64 with Python 3.11 to 3.13 (`tool.uv` in pyproject.toml). What
each file holds:

- torch.txt: PyTorch and CUDA's libraries, which constraints.txt, made on a CPU, does not name.
- train.txt, cpu.txt, evaluate.txt: what these images add to torch.txt; each holds the one before.
- generate.txt: what this image adds to vLLM's, in versions that vLLM accepts.
- vllm.txt: what vLLM's image must bring for that; never installed, hence without hashes.
- pip.txt, build.txt: what installs, and what builds the packages that have no wheel.
- describe.txt: what lists an image's packages.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

LOCKS = Path(__file__).parent
ROOT = LOCKS.parent
HEADER = "# Made by `make locks`; locks/compile.py says what it is for.\n"
ALL = ("train", "quantize", "mlflow", "metrics", "objects", "pipelines")
EXTRAS = {
    "train": ALL,
    "cpu": (*ALL, "registry", "eval"),  # Where models are promoted.
    "evaluate": (*ALL, "registry", "eval", "eval-paper"),
    "generate": ALL,
}
VLLM = (*EXTRAS["generate"], "vllm")
VLLMS = {"setuptools"}
"""What only torch needs besides CUDA's libraries: vLLM pins it otherwise on each platform."""
TOOLS = {"pip": ["pip"], "build": ["setuptools", "wheel"], "describe": ["cyclonedx-bom"]}
PYTHON = "3.11"
"""Of the images' bases."""
VLLM_PYTHON = "3.12"
"""Of vLLM's image."""


def main() -> None:
    """Write the locks, or with `--check` say whether those that are there still hold."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; 1 where they differ")
    if not parser.parse_args().check:
        for name, text in locks():
            (LOCKS / f"{name}.txt").write_text(HEADER + text)
    elif differences := list(check()):
        sys.exit("\n".join(differences) + "\n`make locks` writes the locks anew")


def locks() -> Iterator[tuple[str, str]]:
    """Make the locks: name and content of each."""
    tested = packages((ROOT / "constraints.txt").read_text()).keys()
    torch = locked(requirements=["torch"])
    cuda = {"torch", *(packages(torch).keys() - tested)}
    yield "torch", only(torch, cuda)
    for image in ("train", "cpu", "evaluate"):
        text = locked(*project(EXTRAS[image]))
        yield image, only(text, packages(text).keys() - cuda)
    vllm = locked(*project(VLLM), hashes=False)
    with temporary(vllm) as constraints:
        text = locked(*project(EXTRAS["generate"]), f"--constraint={constraints}")
    yield "generate", only(text, packages(text).keys() - cuda - VLLMS)
    yield "vllm", only(vllm, {"torch", "vllm"})
    for tool, names in TOOLS.items():
        yield tool, locked(requirements=names)


def check() -> Iterator[str]:
    """Resolve each image's requirements under its lock, and name what the lock is without."""
    torch = (LOCKS / "torch.txt").read_text()
    for image, extras in EXTRAS.items():
        lock = torch + (LOCKS / f"{image}.txt").read_text()
        python = VLLM_PYTHON if image == "generate" else PYTHON
        with temporary(lock) as constraints:
            asked = (f"--constraint={constraints}", f"--python-version={python}")
            needed = packages(resolve(*project(extras), *asked))
            if image == "generate":  # With what stays as vLLM's image has it.
                resolve(*project(VLLM), *asked)
                needed = {name: needed[name] for name in needed.keys() - VLLMS}
        for name in needed.keys() - packages(lock).keys():
            yield f"locks/{image}.txt names no version of {name}"


def project(extras: Iterable[str]) -> list[str]:
    """What asks uv for the project's own requirements and those of extras."""
    return ["pyproject.toml", *(f"--extra={name}" for name in extras)]


def locked(*arguments: str, requirements: Iterable[str] = (), hashes: bool = True) -> str:
    """Resolve for all Pythons, with the versions of constraints.txt where they fit.

    Args:
        arguments: Of `uv pip compile`.
        requirements: To be resolved, where the arguments name no file.
        hashes: Whether to write them.
    """
    options = ["--universal", f"--python-version={PYTHON}"]
    options += ["--generate-hashes"] if hashes else []
    seed = (ROOT / "constraints.txt").read_text()
    with temporary("\n".join(requirements)) as source:
        return resolve(*options, *arguments, *([source] if requirements else []), seed=seed)


def resolve(*arguments: str, seed: str = "") -> str:
    """Call uv's resolver, which downloads metadata alone.

    Args:
        arguments: Of `uv pip compile`.
        seed: Pins that are kept where they fit.
    """
    with temporary(seed) as output:
        command = ["uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate"]
        command += [f"--output-file={output}", *arguments]
        done = subprocess.run(command, check=False, cwd=ROOT, stderr=subprocess.PIPE)
        if done.returncode:
            sys.exit(f"{' '.join(arguments)}: {done.stderr.decode()}")
        return Path(output).read_text()


def packages(text: str) -> dict[str, set[str]]:
    """Versions by name; different Pythons may need different ones."""
    versions: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE):
        versions.setdefault(re.sub(r"[-_.]+", "-", name).lower(), set()).add(version)
    return versions


def only(text: str, names: Iterable[str]) -> str:
    """The entries of some packages, each with the hashes below it."""
    entries = re.split(r"^(?=\S)", text, flags=re.MULTILINE)
    return "".join(entry for entry in entries if packages(entry).keys() & set(names))


@contextmanager
def temporary(text: str) -> Iterator[str]:
    """The path of a file of this content inside the block."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "requirements.txt")
        file.write_text(text)
        yield str(file)


if __name__ == "__main__":
    main()
