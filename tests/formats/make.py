"""Makes what this tspin leaves on disk, for the readers of later releases: see test_formats.py.

    python -m tests.formats.make tests/formats/1.tar.xz

To be done before a format changes, and under the number that it has until then. What was made once
is never made again: it stands for what users have.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

from transformers import LlamaConfig, LlamaForCausalLM

from tests.conftest import make_tokenizer
from tspin.records.records import AnnotatedRecord, write_records

CONFIG = """run_dir: whole
iterations: 2
model: {path: base}
data: {annotated: annotated.jsonl, heldout: heldout.jsonl}
prompt: {template: instruction, max_length: 128}
generate: {max_new_tokens: 12}
train: {epochs: 2, learning_rate: 1.0e-3, global_batch_size: 4}
evaluate: {max_records: 4}
system: {generate_batch_size: 4, checkpoint_steps: 1}
"""
BEGUN = "begun"
CHECKPOINT = "iter-1/model.checkpoints/checkpoint-*/complete.json"


def main(out: Path) -> None:
    """Write the archive of a project with a whole run, a killed one and a registry."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_inputs(folder)
        tspin(folder, "run", "--config", "run.yaml")
        kill_second_training(folder)
        promote(folder, 0)
        promote(folder, 1)
        tspin(folder, "rollback", "--registry", "registry")
        with tarfile.open(out, "w:xz") as archive:
            archive.add(folder, ".", filter=kept)


def write_inputs(folder: Path) -> None:
    """A base of 8 dimensions, twelve annotated records, six held out, and the configuration."""
    tokenizer = make_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        initializer_range=0.2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    for name, count in {"annotated": 12, "heldout": 6}.items():
        records = (
            AnnotatedRecord.model_validate(
                {"id": f"{name}-{i}", "prompt": f"say {i}", "response": f"{name} {i}"}
            )
            for i in range(count)
        )
        write_records(folder / f"{name}.jsonl", records)
    (folder / "run.yaml").write_text(CONFIG)


def kill_second_training(folder: Path) -> None:
    """A run that got SIGKILL between two checkpoints of its second iteration."""
    command = [sys.executable, "-m", "tspin", "run", "--config", "run.yaml"]
    options = ["--set", f"run_dir={BEGUN}", "--set", "train.epochs=40"]
    process = subprocess.Popen([*command, *options], cwd=folder, env=environment())
    while not list((folder / BEGUN).glob(CHECKPOINT)):
        if process.poll() is not None:
            raise RuntimeError("the run has ended before it could be killed")
        time.sleep(0.01)  # Nothing tells of a checkpoint but its file.
    process.kill()
    process.wait()


def promote(folder: Path, iteration: int) -> None:
    """An iteration of the whole run becomes the champion, whatever it is worth."""
    step = f"whole/iter-{iteration}"
    gate = ["--min-gain", "-100", "--by-value", "--by", "a team"]
    files = ["--candidate", f"{step}/model", "--metrics", f"{step}/metrics.json"]
    tspin(folder, "promote", *files, "--registry", "registry", *gate)


def tspin(folder: Path, *arguments: str) -> None:
    """A command of `tspin` in a folder."""
    command = [sys.executable, "-m", "tspin", *arguments]
    subprocess.run(command, cwd=folder, env=environment(), check=True)


def environment() -> dict[str, str]:
    """This process's, with one thread and this code."""
    paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }


def kept(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """As the archive keeps it: no user, no time; and no pages, which nothing reads."""
    if entry.name.endswith("report.html"):
        return None
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    return entry


if __name__ == "__main__":
    main(Path(sys.argv[1]))
