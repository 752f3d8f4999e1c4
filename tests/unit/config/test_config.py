import re
from pathlib import Path
from typing import Literal

import pytest

from tspin.config import (
    RunConfig,
    TrainConfig,
    config_differences,
    load_config,
    parse_compiled,
    resolved,
    step_settings,
    structure,
)
from tspin.errors import InputError

ROOT = Path(__file__).parents[3]
SMALLEST = "run_dir: runs/x\nmodel: {path: m}\ndata:\n  annotated: a.jsonl\n"


@pytest.fixture
def write(tmp_path: Path):
    def write_text(text: str) -> Path:
        path = tmp_path / "run.yaml"
        path.write_text(text)
        return path

    return write_text


@pytest.mark.parametrize("path", sorted((ROOT / "configs").rglob("*.yaml")), ids=lambda p: p.name)
def test_shipped_configurations_load(path: Path) -> None:
    assert load_config(path).iterations >= 1


def test_the_papers_setting() -> None:
    config = load_config(ROOT / "configs/paper-zephyr-7b.yaml")
    train = config.train
    assert (train.alpha, train.beta, train.global_batch_size, train.epochs) == (1.0, 0.1, 64, 2)
    assert [train.at("learning_rate", t) for t in range(5)] == [5e-7, 5e-7, 1e-7, 1e-7, 1e-7]
    assert (train.optimizer, train.warmup_ratio, train.weight_decay) == ("rmsprop", 0.1, 0)
    assert (config.iterations, config.prompt.max_length) == (5, 2048)


def test_defaults_are_the_papers_setting() -> None:
    paper = load_config(ROOT / "configs/paper-zephyr-7b.yaml").train
    assert TrainConfig() == paper


def test_beta_starts_with_a_history() -> None:
    assert [TrainConfig().beta_at(t) for t in range(3)] == [0.0, 0.1, 0.1]
    assert TrainConfig(method="tspin_no_history").beta_at(3) == 0.0
    assert TrainConfig(method="spin").beta_at(3) == 0.0


def test_history_is_of_one_policy_or_of_all() -> None:
    assert [[*TrainConfig().history_at(t)] for t in range(4)] == [[], [0], [0], [0]]
    every = TrainConfig(method="tspin_all")
    assert [[*every.history_at(t)] for t in range(4)] == [[], [0], [0, 1], [0, 1, 2]]
    assert [*TrainConfig(method="tspin_no_history").history_at(3)] == []
    with pytest.raises(ValueError, match="beta is 0, but method 'tspin_all'"):
        TrainConfig(method="tspin_all", beta=0)


@pytest.mark.parametrize("method", ["space", "sdft"])
def test_some_methods_take_no_link(method: Literal["space", "sdft"]) -> None:
    assert TrainConfig(method=method).link == "logistic"
    with pytest.raises(ValueError, match=f"link is 'exponential', but method '{method}'"):
        TrainConfig(method=method, link="exponential")


@pytest.mark.parametrize(
    "text", ["{prompt}", "{prompt} {demonstration} {prompt}", "{prompt} {demonstration} {}", "{"]
)
def test_a_demonstration_has_its_places(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"sdft_template is {text!r}")):
        TrainConfig(method="sdft", sdft_template=text)
    assert TrainConfig(sdft_template="{demonstration} {{x}} {prompt}").demonstration is None
    assert TrainConfig(method="sdft", sdft_template="{demonstration}{prompt}").demonstration


@pytest.mark.parametrize("word", ["on", "off", "auto"])
def test_sharding_takes_words_that_yaml_takes_for_booleans(write, word: str) -> None:
    path = write(f"{SMALLEST}system: {{shard: {word}}}\n")
    assert load_config(path).system.shard == word
    assert load_config(write(SMALLEST), [f"system.shard={word}"]).system.shard == word


def test_when_steps_run_is_nothing_to_a_step(write) -> None:
    path = write(SMALLEST)
    plain = load_config(path)
    order = load_config(path, ["system.evaluate_beside=true", "system.speculate=false"])
    assert step_settings(order) == step_settings(plain)
    assert structure(order) == structure(plain)  # No gate, no difference.
    gated = load_config(path, ["data.heldout=h.jsonl", "gate.margin=0"])
    waits = gated.model_copy(update={"system": order.system})
    assert "waits" not in structure(gated)  # As pipelines have it that were compiled earlier.
    assert parse_compiled(gated.model_dump_json(), structure(gated)) == gated
    with pytest.raises(InputError, match="generation waits for the gate: None -> True"):
        parse_compiled(waits.model_dump_json(), structure(gated))


def test_a_compiled_pipeline_takes_no_longer_history(write) -> None:
    path = write(SMALLEST)
    tspin, every = (load_config(path, [f"train.method={name}"]) for name in ("tspin", "tspin_all"))
    assert "tspin_all" not in structure(tspin)
    with pytest.raises(InputError, match="tspin_all: None -> True"):
        parse_compiled(every.model_dump_json(), structure(tspin))


def test_an_unknown_key_names_its_line_and_the_nearest(write) -> None:
    path = write(SMALLEST + "train:\n  betta: 0.1\n")
    with pytest.raises(InputError) as raised:
        load_config(path)
    assert str(raised.value) == f"{path}:6: unknown key 'train.betta'; did you mean 'beta'?"


def test_an_unknown_key_inside_an_optional_section(write) -> None:
    with pytest.raises(InputError, match=r"'train.lora.rank'; valid keys: r, alpha"):
        load_config(write(SMALLEST + "train:\n  lora: {rank: 8}\n"))


def test_every_problem_is_reported(write) -> None:
    path = write(SMALLEST + "seed: -1\ntrain: {beta: x}\n")
    with pytest.raises(InputError) as raised:
        load_config(path)
    message = str(raised.value)
    assert f"{path}:5: 'seed' is -1" in message
    assert f"{path}:6: 'train.beta' is 'x'" in message


@pytest.mark.parametrize(
    ("text", "setting"),
    [
        ("evaluate: {extractors: [lastnumber]}", r"evaluate\.extractors"),
        ("triplets: {same_answer: lastnumber}", r"triplets\.same_answer"),
    ],
)
def test_an_unknown_extractor_is_seen_before_anything_is_generated(
    write, text: str, setting: str
) -> None:
    with pytest.raises(
        InputError, match=rf":5: '{setting}.*: no extractor .*did you mean 'last_number'"
    ):
        load_config(write(SMALLEST + text + "\n"))


def test_what_the_harness_gives_vllm_itself_is_no_argument(write) -> None:
    path = write("evaluate: {harness: {vllm_args: {dtype: float16}}}\n")
    with pytest.raises(InputError, match=r"'dtype' is not given here; set model\.dtype"):
        load_config(path)


def test_overrides_are_yaml_values(write) -> None:
    path = write(SMALLEST)
    config = load_config(path, ["train.learning_rate=[1e-5, 2e-6]", "data.heldout=h.jsonl"])
    assert config.train.learning_rate == (1e-5, 2e-6)
    assert config.data.heldout == "h.jsonl"
    assert config.data.annotated == "a.jsonl"


@pytest.mark.parametrize("override", ["train.beta", "=3", "model.path.x=3", "seed=[", "x.y=1"])
def test_a_wrong_override_is_named(write, override: str) -> None:
    with pytest.raises(InputError, match="--set"):
        load_config(write(SMALLEST), [override])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [1", "not valid YAML"),
        ("- 1", "expected sections"),
        ("seed: 1\nseed: 2\n", r":2: 'seed' is given on line 1 already"),
        ("iterations: 3\n", "'run_dir' is missing"),
        (SMALLEST + "gate: {margin: 0.1}\n", "needs data.heldout"),
        (SMALLEST + "evaluate: {tasks: [gsm8k]}\n", "evaluate.tasks needs data.heldout"),
        (SMALLEST + "generate: {max_new_tokens: 4096}\n", "no room for a prompt"),
        (SMALLEST + "train: {learning_rate: []}\n", "one or more numbers above 0"),
        (SMALLEST + "train: {alpha: .nan}\n", "finite"),
    ],
)
def test_wrong_files(write, text: str, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        load_config(write(text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_config(tmp_path / "nowhere.yaml")


def test_the_resolved_configuration_round_trips(write) -> None:
    config = load_config(write(SMALLEST))
    assert RunConfig.model_validate(resolved(config)) == config


def test_differences_leave_out_what_does_not_change_the_result(write) -> None:
    path = write(SMALLEST)
    old = resolved(load_config(path))
    new = resolved(
        load_config(path, ["system.tokens_per_device=2", "run_dir=elsewhere", "train.beta=0.3"])
    )
    assert config_differences(old, new) == ["train.beta: 0.1 -> 0.3"]


def test_the_home_folder_is_written_out_once(
    write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    text = (
        "run_dir: ~/runs/x\nmodel: {path: ~/m}\ndata: {annotated: ~/a.jsonl, heldout: ~/h.jsonl}\n"
        "system: {checkpoints: ~/kept}\nevaluate: {harness: {task_folder: ~/tasks}}\n"
    )
    config = load_config(write(text), ["data.heldout=~/other.jsonl"])
    assert config.run_dir == f"{tmp_path}/runs/x"
    assert config.model.path == f"{tmp_path}/m"
    assert (config.data.annotated, config.data.heldout) == (
        f"{tmp_path}/a.jsonl",
        f"{tmp_path}/other.jsonl",
    )
    assert config.system.checkpoints == f"{tmp_path}/kept"
    assert config.evaluate.harness.task_folder == f"{tmp_path}/tasks"


@pytest.mark.parametrize("location", ["s3://bucket/~/a", "org/model", "a/~/b", "~no-such-user/a"])
def test_what_is_no_home_folder_stays(write, location: str) -> None:
    config = load_config(write(SMALLEST), [f"run_dir={location}"])
    assert config.run_dir == location


@pytest.mark.parametrize("value", ['"a\\nb"', '"a\\0b"', '""', '"  "'])
@pytest.mark.parametrize(
    "key", ["run_dir", "model.path", "data.annotated", "data.heldout", "system.checkpoints"]
)
def test_a_path_that_cannot_be_quoted_is_refused(write, key: str, value: str) -> None:
    with pytest.raises(InputError, match=rf"'{key}' is .*(control character|is empty)"):
        load_config(write(SMALLEST), [f"{key}={value}"])


def test_sections_of_others_may_stand_in_the_schema() -> None:
    schema = RunConfig.model_json_schema()
    assert schema["patternProperties"] == {"^x-|^format$": {}}
    assert not schema["additionalProperties"]


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        ("", r"model\.quantize 'nf4' needs train\.lora: weights in four bits cannot be trained"),
        ("train: {lora: {}}\nsystem: {shard: 'on'}\n", "weights in four bits are not sharded"),
    ],
)
def test_weights_in_four_bits_are_for_adapters_and_not_sharded(
    write, sections: str, told: str
) -> None:
    smallest = SMALLEST.replace("{path: m}", "{path: m, quantize: nf4}")
    allowed = load_config(write(smallest + "train: {lora: {}}\n"))
    assert (allowed.model.quantize, allowed.system.shard) == ("nf4", "auto")
    with pytest.raises(InputError, match=told):
        load_config(write(smallest + sections))


def test_greedy_samples_are_refused(write) -> None:
    path = write(SMALLEST + "generate: {samples: 2, temperature: 0}\n")
    with pytest.raises(InputError, match="samples is 2, but at temperature 0 all of them are"):
        load_config(path)


def test_right_answers_need_an_extractor(write) -> None:
    path = write(SMALLEST + "train: {method: rft}\n")
    with pytest.raises(InputError, match="give rft_extractor, which finds them"):
        load_config(path)
    assert load_config(path, ["train.rft_extractor=gsm8k"]).train.rft_cap is None
