"""The evaluate step with vLLM: one start for all decodings, and shards with the bytes of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import pytest
from vllm_setup import QUICK, engine_processes, make_config

import tspin.engines.vllm
from tspin.evaluate.shards.merging import merge_evaluations
from tspin.evaluate.step import evaluate
from tspin.generate.shards import Shard
from tspin.records.records import AnnotatedRecord, Message, write_records
from tspin.records.seconds import SECONDS


@pytest.fixture
def heldout(tmp_path: Path) -> Path:
    path = tmp_path / "heldout.jsonl"
    records = [
        AnnotatedRecord(
            id=f"r{i}",
            messages=[Message(role="user", content=f"{i} and {i}?")],
            response=f"{2 * i}",
        )
        for i in range(12)
    ]
    write_records(path, records)
    return path


def test_one_start_for_all_decodings_of_each_shard(
    base: Path, heldout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(
        base,
        data={"annotated": str(heldout), "heldout": str(heldout)},
        generate={"max_new_tokens": 16, "engine_args": {**QUICK, "kv_cache_memory_bytes": 2**28}},
        evaluate={"fit_temperature": True},
        system={"device": "cpu", "threads": 1, "generate_batch_size": 1},
    )
    starts: list[Any] = []
    own = tspin.engines.vllm.open_vllm

    def counted(*given: Any) -> Any:
        starts.append(given)
        return own(*given)

    monkeypatch.setattr(tspin.engines.vllm, "open_vllm", counted)
    before = engine_processes(psutil.Process())  # Those of other tests.
    outs = [tmp_path / name / "metrics.json" for name in ("whole", "0", "1")]
    for out, shard in zip(outs, ("0/1", "0/2", "1/2"), strict=True):
        evaluate(
            config,
            model=str(base),
            annotated=heldout,
            out=out,
            proto=None,
            iteration=-1,
            temperature=0.9,  # Fitted to a random model it is more than vLLM takes.
            shard=Shard.parse(shard),
        )
    assert len(starts) == 3
    assert engine_processes(psutil.Process()) == before
    merged = tmp_path / "merged/metrics.json"
    merge_evaluations(outs[1:], annotated=heldout, out=merged)
    made = sorted(path.name for path in outs[0].parent.iterdir())
    names = [name for name in made if not name.endswith(SECONDS)]
    assert {f"metrics.{mode}.jsonl" for mode in ("greedy", "sampled", "fitted")} < {*names}
    for name in names:
        assert (merged.parent / name).read_bytes() == (outs[0].parent / name).read_bytes(), name
