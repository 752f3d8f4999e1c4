import subprocess
import sys
from pathlib import Path

import orjson
import pytest

import tspin.demo.demo
from tspin.demo.demo import ANNOTATED_COUNT, BASE, HELDOUT_COUNT, TASKS, write_demo
from tspin.errors import InputError


def contents(folder: Path) -> dict[str, bytes]:
    return {
        entry.relative_to(folder).as_posix(): entry.read_bytes()
        for entry in sorted(folder.rglob("*"))
        if entry.is_file()
    }


def records(file: Path) -> list[dict[str, str]]:
    return [orjson.loads(line) for line in file.read_bytes().splitlines()]


def test_the_demo_holds_base_data_sets_and_tasks(tmp_path):
    write_demo(tmp_path / "demo")
    assert sorted(entry.name for entry in (tmp_path / "demo").iterdir()) == [
        "annotated.jsonl",
        "base",
        "heldout.jsonl",
        "tasks",
    ]
    assert contents(tmp_path / "demo" / "base") == contents(BASE)
    train = records(tmp_path / "demo" / "annotated.jsonl")
    heldout = records(tmp_path / "demo" / "heldout.jsonl")
    assert [len(train), len(heldout)] == [1_024, 256] == [ANNOTATED_COUNT, HELDOUT_COUNT]
    assert [train[0]["id"], heldout[-1]["id"]] == ["demo-train-00001", "demo-heldout-00256"]
    for rows in (train, heldout):
        assert all(set(row) == {"id", "prompt", "response"} for row in rows)
    ids = [row["id"] for row in train + heldout]
    assert len(set(ids)) == len(ids)
    assert not {row["prompt"] for row in train} & {row["prompt"] for row in heldout}


def test_the_tasks_ask_the_heldout_problems(tmp_path):
    write_demo(tmp_path / "demo")
    heldout = records(tmp_path / "demo" / "heldout.jsonl")
    asked = records(tmp_path / "demo" / "tasks" / "questions.jsonl")
    assert [each["prompt"] for each in asked] == [record["prompt"] for record in heldout]
    for each, record in zip(asked, heldout, strict=True):
        assert each["choices"][each["right"]] == record["response"]
        assert record["response"].endswith(f"The answer is {each['answer']}.")
        assert len(set(each["choices"])) == 4
        wrong = [choice for choice in each["choices"] if choice != record["response"]]
        assert not any(choice.endswith(f" is {each['answer']}.") for choice in wrong)
    assert {each["right"] for each in asked} == {0, 1, 2, 3}
    assert {path.name for path in TASKS.iterdir()} <= {
        path.name for path in (tmp_path / "demo" / "tasks").iterdir()
    }


def test_the_bytes_are_the_same_every_time(tmp_path):
    write_demo(tmp_path / "one")
    write_demo(tmp_path / "two")
    before = contents(tmp_path / "one")
    assert contents(tmp_path / "two") == before
    write_demo(tmp_path / "one")
    assert contents(tmp_path / "one") == before


def test_a_folder_that_exists_is_filled_and_keeps_its_other_files(tmp_path):
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "notes.txt").write_text("mine")
    write_demo(tmp_path / "demo")
    assert (tmp_path / "demo" / "notes.txt").read_text() == "mine"
    assert contents(tmp_path / "demo" / "base") == contents(BASE)


@pytest.mark.parametrize("name", ["base/my.safetensors", "annotated.jsonl"])
def test_what_is_not_the_demos_stays(tmp_path, name):
    path = tmp_path / "demo" / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(InputError, match=r"(base|annotated\.jsonl): (holds something|is there)"):
        write_demo(tmp_path / "demo")
    assert contents(tmp_path / "demo") == {name: b"mine"}


def test_a_failure_leaves_nothing(tmp_path, monkeypatch):
    def broken(split, count):
        yield {"id": "1", "prompt": "p", "response": "r"}
        raise OSError("disk full")

    monkeypatch.setattr(tspin.demo.demo, "demo_records", broken)
    with pytest.raises(OSError, match="disk full"):
        write_demo(tmp_path / "demo")
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "demo").write_text("mine")
    with pytest.raises(InputError, match="is a file"):
        write_demo(tmp_path / "demo")
    assert (tmp_path / "demo").read_text() == "mine"


def test_the_command_writes_the_demo_and_refuses_a_file(tmp_path):
    command = [sys.executable, "-m", "tspin.demo"]
    done = subprocess.run([*command, tmp_path / "demo"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(records(tmp_path / "demo" / "annotated.jsonl")) == ANNOTATED_COUNT
    refused = subprocess.run(
        [*command, tmp_path / "demo" / "annotated.jsonl"], capture_output=True, text=True
    )
    assert refused.returncode == 2
    assert "is a file" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_writing_the_demo_loads_no_torch(tmp_path):
    script = (
        "import sys; from pathlib import Path; from tspin.demo.demo import write_demo;"
        f"write_demo(Path({str(tmp_path / 'demo')!r}));"
        "print([m for m in ('torch', 'transformers', 'tokenizers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
