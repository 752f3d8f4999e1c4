"""The embedded default: a small base model and annotated word problems to fine-tune it on.

Everything is made from a seed by this package: the problems (`problems`), the corpus that the
base was pre-trained on (`corpus`), its tokenizer (`tokenizer`) and its weights (`pretrain`).
Writing the demo loads no torch.
"""

import shutil
from pathlib import Path

import orjson

from tspin.demo.problems import Split, distinct_problems
from tspin.errors import InputError
from tspin.files import atomic_file, atomic_folder

__all__ = ["ANNOTATED_COUNT", "BASE", "HELDOUT_COUNT", "demo_records", "write_demo"]

ANNOTATED_COUNT = 1_024
HELDOUT_COUNT = 256
SEED = 0

BASE = Path(__file__).parent / "base"
"""The shipped checkpoint: safetensors, configuration, tokenizer, and how it was made."""


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
    """Write `base/`, `annotated.jsonl` and `heldout.jsonl`, the same bytes every time.

    A new folder appears whole or not at all. In a folder that exists, each of the three is
    replaced whole and everything else is left alone.

    Args:
        folder: Where to write.

    Raises:
        InputError: If `folder` is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; name a folder for the demo")
    if folder.is_dir():
        _write_parts(folder)
    else:
        with atomic_folder(folder) as temporary:
            _write_parts(temporary)


def _write_parts(folder: Path) -> None:
    with atomic_folder(folder / "base") as base:
        for source in sorted(BASE.iterdir()):
            shutil.copyfile(source, base / source.name)
    parts: tuple[tuple[str, Split, int], ...] = (
        ("annotated.jsonl", "train", ANNOTATED_COUNT),
        ("heldout.jsonl", "heldout", HELDOUT_COUNT),
    )
    for name, split, count in parts:
        with atomic_file(folder / name) as file:
            for record in demo_records(split, count):
                file.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
