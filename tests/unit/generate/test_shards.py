"""Shards of a generation, and the whole that they make."""

from pathlib import Path

import pytest

from tspin.config import (
    DataConfig,
    GenerateConfig,
    ModelConfig,
    PromptConfig,
    RunConfig,
    SystemConfig,
)
from tspin.errors import InputError
from tspin.generate.shards import Shard, merge_responses
from tspin.generate.step import generate
from tspin.records.manifest import Manifest, manifest_path, read_manifest, write_manifest
from tspin.records.records import AnnotatedRecord, Message, write_records


@pytest.fixture
def config(tmp_path, tiny_model_dir):
    annotated = tmp_path / "annotated.jsonl"
    write_records(
        annotated,
        [
            AnnotatedRecord(
                id=f"record-{at}",
                # Every fifth prompt is too long and dropped.
                messages=[Message(role="user", content="apples " * (80 if at % 5 == 1 else at))],
                response=f"{at}",
            )
            for at in range(1, 18)
        ],
    )
    return RunConfig(
        run_dir=tmp_path / "run",
        model=ModelConfig(path=str(tiny_model_dir)),
        data=DataConfig(annotated=annotated),
        prompt=PromptConfig(max_length=90, over_long="drop"),
        generate=GenerateConfig(max_new_tokens=12),
    )


def answer(config, out, shard="0/1", iteration=1):
    generate(
        config,
        model=config.model.path,
        annotated=Path(config.data.annotated),
        out=out,
        iteration=iteration,
        shard=Shard.parse(shard),
    )
    return out


@pytest.mark.parametrize("count", [2, 3, 20])
def test_merged_shards_are_the_bytes_and_manifest_of_one_generation(config, tmp_path, count):
    whole = answer(config, tmp_path / "whole.jsonl")
    shards = [
        answer(config, tmp_path / f"shard-{index}.jsonl", f"{index}/{count}")
        for index in range(count)
    ]
    merged = tmp_path / "merged.jsonl"
    manifest = merge_responses(shards[::-1], annotated=Path(config.data.annotated), out=merged)
    assert manifest.dropped_ids["over_long"]
    assert merged.read_bytes() == whole.read_bytes()
    assert manifest_path(merged).read_bytes() == manifest_path(whole).read_bytes()


def test_merged_shards_of_several_samples_are_one_generation(config, tmp_path):
    one = answer(config, tmp_path / "one.jsonl")
    assert "samples" not in read_manifest(one).parameters  # As before there was a choice.
    several = config.generate.model_copy(update={"samples": 2, "engine": "fake"})
    config = config.model_copy(update={"generate": several})
    whole = answer(config, tmp_path / "whole.jsonl")
    shards = [answer(config, tmp_path / f"shard-{at}.jsonl", f"{at}/3") for at in range(3)]
    merged = tmp_path / "merged.jsonl"
    manifest = merge_responses(shards, annotated=Path(config.data.annotated), out=merged)
    assert manifest.parameters["samples"] == 2
    assert manifest.counts["records"] == 2 * (17 - len(manifest.dropped_ids["over_long"]))
    assert merged.read_bytes() == whole.read_bytes()
    assert manifest_path(merged).read_bytes() == manifest_path(whole).read_bytes()


def test_a_missing_sample_is_named(config, tmp_path):
    several = config.generate.model_copy(update={"samples": 2, "engine": "fake"})
    config = config.model_copy(update={"generate": several})
    shards = [answer(config, tmp_path / f"shard-{at}.jsonl", f"{at}/2") for at in range(2)]
    lines = shards[1].read_bytes().splitlines(keepends=True)
    shards[1].write_bytes(b"".join(lines[:1] + lines[2:]))
    manifest = Manifest.model_validate_json(manifest_path(shards[1]).read_bytes())
    write_manifest(shards[1], manifest)
    with pytest.raises(InputError, match=r"expected sample 1 of the response to 'record-2'"):
        merge_responses(shards, annotated=Path(config.data.annotated), out=tmp_path / "m.jsonl")


def test_shards_that_were_computed_otherwise_are_merged_and_it_is_told(config, tmp_path):
    shards = []
    for index in range(2):
        system = SystemConfig(threads=1 + index)
        one = config.model_copy(update={"system": system})
        shards.append(answer(one, tmp_path / f"shard-{index}.jsonl", f"{index}/2"))
    merged = tmp_path / "merged.jsonl"
    manifest = merge_responses(shards, annotated=Path(config.data.annotated), out=merged)
    assert manifest.arithmetic.threads == 1
    assert manifest.bytes_may_differ == "computed otherwise than shard 1 (threads 1 instead of 2)"


def test_shards_that_do_not_make_a_whole_are_refused(config, tmp_path):
    first, second = (
        answer(config, tmp_path / f"{index}.jsonl", f"{index}/2") for index in range(2)
    )
    other = answer(config, tmp_path / "other.jsonl", "1/2", iteration=2)

    def merge(*shards):
        merge_responses(shards, annotated=Path(config.data.annotated), out=tmp_path / "out.jsonl")

    with pytest.raises(InputError, match="is shard 0/2, but 1 files are given"):
        merge(first)
    with pytest.raises(InputError, match="both are shard 0/2"):
        merge(first, first)
    with pytest.raises(InputError, match="their iteration differs: 2 and 1"):
        merge(first, other)
    annotated = Path(config.data.annotated)
    annotated.write_bytes(annotated.read_bytes() + b"\n")
    with pytest.raises(InputError, match=r"was not generated for the prompts of .*annotated.jsonl"):
        merge(first, second)
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize("text", ["", "1", "2/2", "-1/2", "a/b", "0/0", "1.0/2"])
def test_what_is_no_shard_is_refused(text):
    with pytest.raises(InputError, match="expected i/n"):
        Shard.parse(text)
