"""Import at size: time that grows as the file does, and memory that does not."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tspin.data import import_records, validate_records
from tspin.records.records import AnnotatedRecord, read_records

pytestmark = pytest.mark.integration

_MEASURE = """
import json, sys, time
from pathlib import Path
from tspin.data import import_records
begun = time.process_time()
summary = import_records(Path(sys.argv[1]), Path(sys.argv[2]))
seconds = time.process_time() - begun
status = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
peak = int(status["VmHWM"].split()[0]) / 1024  # getrusage would include the parent's before exec.
print(json.dumps({"written": summary.written, "seconds": seconds, "mib": peak}))
"""
_TEXT = "Each of the words here stands for one of an annotation, which has about two hundred. " * 12


def make(path: Path, rows: int) -> Path:
    numbered = [
        {"prompt": f"{i}: {_TEXT[:200]}?", "completion": f"{i} {_TEXT}"} for i in range(rows)
    ]
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(numbered), path, row_group_size=rows)
    elif path.name.endswith("columns.json"):
        columns = {n: {str(i): row[n] for i, row in enumerate(numbered)} for n in numbered[0]}
        path.write_bytes(orjson.dumps(columns))
    elif path.suffix == ".json":
        path.write_bytes(orjson.dumps(numbered))
    elif path.suffix == ".csv":
        with path.open("w") as file:
            writer = csv.writer(file)
            writer.writerows([numbered[0], *(row.values() for row in numbered)])
    else:
        with path.open("wb") as file:
            file.writelines(orjson.dumps(row) + b"\n" for row in numbered)
    return path


def measure(source: Path, out: Path) -> dict[str, float]:
    """Rows written, processor seconds and peak memory (MiB) of an import in its own process."""
    command = [sys.executable, "-c", _MEASURE, str(source), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout)
    return result


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read there")
@pytest.mark.parametrize("ending", ["jsonl", "json", "columns.json", "csv", "parquet"])
def test_time_grows_as_the_file_does_and_memory_does_not(tmp_path: Path, ending: str) -> None:
    few, rows = 5_000, 40_000
    small = measure(make(tmp_path / f"small.{ending}", few), tmp_path / "out.jsonl")
    large = measure(make(tmp_path / f"large.{ending}", rows), tmp_path / "out.jsonl")
    assert (small["written"], large["written"]) == (few, rows)
    # A row costs about the same in both, on a machine of any speed: eight times as many would cost
    # eight times as much each, if time grew with the square.
    assert large["seconds"] / rows < 4 * small["seconds"] / few, (small, large)
    # 50 MB more of text; the cache of the duplicates (8 MiB) may fill up meanwhile.
    assert large["mib"] - small["mib"] < 24, (small, large)


@pytest.mark.skipif("TSPIN_GSM8K" not in os.environ, reason="TSPIN_GSM8K names no train.jsonl")
def test_gsm8k_as_published(tmp_path: Path) -> None:
    out = tmp_path / "annotated.jsonl"
    summary = import_records(Path(os.environ["TSPIN_GSM8K"]), out)
    assert summary.format == "question-answer"
    assert (summary.rows, summary.written, summary.skipped) == (7473, 7473, {})
    assert validate_records(out).ok
    assert all("####" in record.response for record in read_records(out, AnnotatedRecord))
