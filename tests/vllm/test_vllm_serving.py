"""What `tspin deploy` writes, started: held-out prompts are answered as the evaluation saw."""

from __future__ import annotations

import json
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner
from vllm_setup import START, make_config, server

from tspin.cli.main import app as tspin
from tspin.config import RunConfig
from tspin.errors import GateRefusedError
from tspin.evaluate.step import evaluate
from tspin.models.folder import find_model
from tspin.records.records import AnnotatedRecord, Message, Response, read_records, write_records
from tspin.registry import promote
from tspin.tokens.loading import load_template
from tspin_pipelines.profiles.profile import PROFILES
from tspin_pipelines.serving.commands import app, check_app

METRIC = "exact_match/exact/greedy"
TEMPLATE = (
    "{{ bos_token }}{{ tone | default('') }}"
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
KEYWORDS = {"tone": "briefly:"}
SIZE = 12
QUICK = ("--enforce-eager", "--max-num-seqs=16")


@dataclass
class Promoted:
    """A champion, and what its evaluation left."""

    folder: Path
    config: Path
    heldout: Path
    answers: Path

    @property
    def registry(self) -> Path:
        return self.folder / "cache/registry"

    def told(self, *options: object) -> list[str]:
        return [str(option) for option in ("--registry", self.registry, *options)]


def _config(base: Path, folder: Path, **generate: Any) -> RunConfig:
    return make_config(
        base,
        data={"annotated": str(folder / "heldout.jsonl"), "heldout": str(folder / "heldout.jsonl")},
        prompt={"max_length": 200, "chat_template_kwargs": KEYWORDS},
        generate={"engine": "transformers", "engine_args": {}, "max_new_tokens": 24, **generate},
        evaluate={"sampled": False},
    )


def _records(answers: list[str]) -> list[AnnotatedRecord]:
    asked = [[Message(role="user", content=f"{i} and {i}?")] for i in range(len(answers))]
    return [
        AnnotatedRecord(id=f"r{i}", messages=messages, response=answer)
        for i, (messages, answer) in enumerate(zip(asked, answers, strict=True))
    ]


def _token_of(config: RunConfig, model: Path, text: str) -> int:
    """One that stands within an answer."""
    template = load_template(find_model(str(model), config.model), config.model, config.prompt)
    return template.response_ids(text, finished=False)[6]


@pytest.fixture(scope="module")
def promoted(base: Path, adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Promoted:
    """An adapter whose template, stop ids and settings its base does not have."""
    folder = tmp_path_factory.mktemp("served")
    model = shutil.copytree(adapter, folder / "model")
    (model / "chat_template.jinja").write_text(TEMPLATE)
    config, records = _config(base, folder), _records(["?"] * SIZE)
    eos = json.loads((base / "config.json").read_text())["eos_token_id"]
    # Ends some answers early; and settings of which the evaluation knows nothing.
    ends = [eos, _token_of(config, model, _promote(folder, config, model, records)[0])]
    settings = {"eos_token_id": ends, "repetition_penalty": 1.5, "max_new_tokens": 3}
    (model / "generation_config.json").write_text(json.dumps(settings))
    texts = _promote(folder, config, model, records)
    assert len({len(text) for text in texts}) > 1
    # Some annotations are what the policy answers, so that there is a share to compare. Where its
    # last character is cut, a server holds that back.
    known = ["no" if text.endswith("\ufffd") else text for text in texts]
    assert 0 < known.count("no") < SIZE
    _promote(folder, config, model, _records(known))
    (folder / "config.yaml").write_text(config.model_dump_json())
    return Promoted(
        folder, folder / "config.yaml", folder / "heldout.jsonl", folder / "metrics.greedy.jsonl"
    )


def _promote(
    folder: Path, config: RunConfig, model: Path, records: list[AnnotatedRecord]
) -> list[str]:
    """Evaluate, and promote into a registry of its own; the greedy answers."""
    heldout, metrics = folder / "heldout.jsonl", folder / "metrics.json"
    shutil.rmtree(folder / "cache", ignore_errors=True)
    write_records(heldout, records)
    evaluate(config, model=str(model), annotated=heldout, out=metrics, proto=None, iteration=0)
    registry = str(folder / "cache/registry")
    promote(model, metrics=metrics, registry=registry, metric=METRIC, direction="max")
    return [one.response for one in read_records(folder / "metrics.greedy.jsonl", Response)]


def _deployed(promoted: Promoted, to: str) -> list[dict[str, Any]]:
    """The documents that the command writes, for a claim where the registry stands."""
    text = (PROFILES / "cpu.yaml").read_text()
    profile = promoted.folder / "profile.yaml"
    profile.write_text(text.replace("path: /cache}", f"path: {promoted.folder / 'cache'}}}"))
    options = promoted.told("--to", to, "--profile", profile, "--config", promoted.config)
    options += ["--base", "pvc://bases/base", "--image", "registry.example.com/vllm:v0.32.0"]
    done = CliRunner().invoke(
        app, [*options, *(f"--arg={argument}" for argument in QUICK)], catch_exceptions=False
    )
    assert done.exit_code == 0
    return list(yaml.safe_load_all(done.stdout))


def _check(promoted: Promoted, url: str, *options: object) -> str:
    asked = ["--url", url, "--heldout", promoted.heldout, "--config", promoted.config]
    done = CliRunner().invoke(check_app, promoted.told(*asked, *options))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.stdout


def _rows(told: str) -> dict[str, list[str]]:
    """The numbers of its table, by name."""
    rows = [re.split(r" {2,}", line) for line in told.splitlines()]
    return {name: numbers for name, *numbers in rows if name}


def test_the_plain_server_answers_as_the_evaluation_saw(promoted: Promoted, base: Path) -> None:
    pod = _deployed(promoted, "vllm")[0]["spec"]["template"]["spec"]
    (fetcher,), (container,) = pod["initContainers"], pod["containers"]
    inside = fetcher["args"][-1]
    local = str(promoted.folder / "fetched")
    fetched = CliRunner().invoke(tspin, [*fetcher["args"][:-1], local], catch_exceptions=False)
    assert fetched.exit_code == 0
    assert container["command"] == ["python3", *START[1:]]
    arguments = [argument.replace(inside, local) for argument in container["args"]]
    arguments[arguments.index("/base")] = str(base)
    end = arguments.index("--host")
    assert arguments[end + 2 :] == ["--port", "8000"]
    with server([*START, *arguments[:end]]) as url:
        told = _check(promoted, url, "--answers", promoted.answers, "--margin", 0)
        assert _rows(told)["same greedy answer"] == ["1", "1", f"{SIZE}"]
        measured, answered, number = _rows(told)[METRIC]
        assert measured == answered != "0"
        assert number == f"{SIZE}"
        # Against the champion's record alone.
        assert _rows(_check(promoted, url, "--margin", 0)) == {METRIC: [measured, answered, number]}
        with pytest.raises(GateRefusedError, match="same greedy answer"):
            _check(promoted, url, "--answers", promoted.answers, "--max-new-tokens", 2)
        with pytest.raises(GateRefusedError, match="'other'; there are tspin-base, tspin, tspin-"):
            _check(promoted, url, "--name", "other")


def test_kserves_preset_starts_the_same_server(promoted: Promoted, base: Path) -> None:
    service = _deployed(promoted, "kserve")[0]
    model, (container,) = service["spec"]["model"], service["spec"]["template"]["containers"]
    (adapter,) = model["lora"]["adapters"]
    local = promoted.registry / "models" / Path(adapter["uri"]).name
    # What the controller puts before our arguments, and how the preset hands all of them on.
    module = json.dumps({"name": adapter["name"], "path": "/mnt/lora/tspin"})
    injected = ["--enable-lora", f"--max-lora-rank={model['lora']['maxRank']}"]
    arguments = [*injected, "--lora-modules", f"'{module}'", *container["args"]]
    arguments = [argument.replace("/mnt/lora/tspin", str(local)) for argument in arguments]
    command = f'eval "exec {sys.executable} {" ".join(START[1:])} --model {base} $@"'
    with server(["bash", "-c", command, "--", *arguments]) as url:
        told = _check(promoted, url, "--answers", promoted.answers, "--margin", 0)
    assert _rows(told)["same greedy answer"] == ["1", "1", f"{SIZE}"]
