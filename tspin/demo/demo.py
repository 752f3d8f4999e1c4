"""The embedded default: a small base model and annotated word problems to fine-tune it on.

Everything is made from a seed by this package: the problems (`problems`), the corpus that the
base was pre-trained on (`corpus`), its tokenizer (`tokenizer`) and its weights (`pretrain`).
Writing the demo loads no torch.
"""

import random
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson

from tspin.demo.problems import Split, distinct_problems
from tspin.demo.questions import question
from tspin.errors import InputError
from tspin.files import atomic_file, atomic_folder, sha256_file
from tspin.outputs import check_output, copy_of, equal_to

__all__ = ["ANNOTATED_COUNT", "BASE", "HELDOUT_COUNT", "TASKS", "demo_records", "write_demo"]

ANNOTATED_COUNT = 1_024
HELDOUT_COUNT = 256
SEED = 0

BASE = Path(__file__).parent / "base"
"""The shipped checkpoint: safetensors, configuration, tokenizer, and how it was made."""

TASKS = Path(__file__).parent / "tasks"
"""The shipped tasks of lm-evaluation-harness; their questions are written beside the copies."""


def demo_records(split: Split, count: int) -> list[dict[str, str]]:
    """Make annotated records: word problems and their worked answers.

    Args:
        split: `train` or `heldout`; the two share no combination of numbers.
        count: How many records; fewer are the first of more.

    Returns:
        Records with `id`, `prompt` and `response`.
    """
    return [
        {
            "id": f"demo-{split}-{number:05d}",
            "prompt": problem.prompt,
            "response": problem.annotation,
        }
        for number, problem in enumerate(distinct_problems(SEED, split, count), start=1)
    ]


def write_demo(folder: Path) -> None:
    """Write `base/`, `annotated.jsonl`, `heldout.jsonl` and `tasks/`, the same bytes every time.

    A new folder appears whole or not at all. In a folder that exists, what is missing of the four
    is put and everything else is left alone.

    Args:
        folder: Where to write.

    Raises:
        InputError: `folder` is a file, or holds another file or folder of one of the names.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; name a folder for the demo")
    if folder.is_dir():
        with TemporaryDirectory() as temporary:
            _write_parts(Path(temporary))
            _refuse_others(folder, Path(temporary))
        _write_parts(folder)
    else:
        with atomic_folder(folder) as temporary:
            _write_parts(temporary)


def _refuse_others(folder: Path, demo: Path) -> None:
    """Nothing but the same part is replaced."""
    for part in sorted(demo.iterdir()):
        if part.is_dir():
            files = {p.relative_to(part).as_posix(): sha256_file(p) for p in part.rglob("*")}
            check_output(folder / part.name, copy_of(files), folder=True)
        else:
            check_output(folder / part.name, equal_to(part))


def _write_parts(folder: Path) -> None:
    with atomic_folder(folder / "base") as base:
        _copy(BASE, base)
    with atomic_folder(folder / "tasks") as tasks:
        _copy(TASKS, tasks)
        rng = random.Random(f"questions-{SEED}")
        with (tasks / "questions.jsonl").open("wb") as file:
            for problem in distinct_problems(SEED, "heldout", HELDOUT_COUNT):
                file.write(orjson.dumps(question(problem, rng), option=orjson.OPT_APPEND_NEWLINE))
    parts: tuple[tuple[str, Split, int], ...] = (
        ("annotated.jsonl", "train", ANNOTATED_COUNT),
        ("heldout.jsonl", "heldout", HELDOUT_COUNT),
    )
    for name, split, count in parts:
        with atomic_file(folder / name) as file:
            for record in demo_records(split, count):
                file.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))


def _copy(source: Path, folder: Path) -> None:
    for entry in sorted(source.iterdir()):
        shutil.copyfile(entry, folder / entry.name)
