"""Tasks of lm-evaluation-harness in the evaluate step: real tasks, real harness, small models."""

from __future__ import annotations

import json
import random
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

import tspin.evaluate.answers
import tspin.evaluate.step
import tspin.evaluate.tasks
from tests import warm
from tests.unit.models.policy_folders import save_adapter
from tspin.cli.main import app
from tspin.config import EvaluateConfig, RunConfig
from tspin.demo.demo import BASE, TASKS
from tspin.demo.problems import distinct_problems
from tspin.demo.questions import question
from tspin.errors import InputError, TspinError
from tspin.evaluate.step import evaluate
from tspin.harness.loading import load_task
from tspin.harness.requests import task_requests
from tspin.models.policy import load_policy
from tspin.records.extractors import EXTRACTORS
from tspin.records.records import AnnotatedRecord, Message, Response, read_records, write_records
from tspin.records.seconds import seconds_path

pytestmark = pytest.mark.integration

COUNT = 12


@pytest.fixture(autouse=True)
def _caches(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets", reason="lm-eval is not installed")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))


@pytest.fixture
def heldout(tmp_path: Path) -> Path:
    """The demo's first held-out problems as records, and as questions of its tasks."""
    folder, rng = tmp_path / "tasks", random.Random(0)
    folder.mkdir()
    problems = distinct_problems(0, "heldout", COUNT)
    questions = [orjson.dumps(question(problem, rng)) for problem in problems]
    (folder / "questions.jsonl").write_bytes(b"\n".join(questions))
    for source in TASKS.glob("*.yaml"):
        (folder / source.name).write_bytes(source.read_bytes())
    path = tmp_path / "heldout.jsonl"
    write_records(
        path,
        [
            AnnotatedRecord(
                id=f"h{number}",
                messages=[Message(role="user", content=problem.prompt)],
                response=problem.annotation,
            )
            for number, problem in enumerate(problems)
        ],
    )
    return path


def define(heldout: Path, source: str, name: str, **changes: Any) -> None:
    """Another task of the folder, made from a shipped one."""
    folder = heldout.parent / "tasks"
    values = yaml.safe_load((folder / f"{source}.yaml").read_text()) | {"task": name, **changes}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(values, sort_keys=False))


def config_of(heldout: Path, *tasks: str, **harness: Any) -> RunConfig:
    return RunConfig.model_validate(
        {
            "run_dir": "runs/x",
            "model": {"path": str(BASE)},
            "data": {"annotated": "a.jsonl", "heldout": str(heldout)},
            "prompt": {"template": "instruction", "max_length": 256},
            "generate": {"max_new_tokens": 96},
            "evaluate": {
                "extractors": ["last_number"],
                "sampled": False,
                "tasks": tasks,
                "harness": {"task_folder": str(heldout.parent / "tasks"), **harness},
            },
            "system": {"device": "cpu", "generate_batch_size": 6},
        }
    )


def measured(
    config: RunConfig, heldout: Path, name: str = "out", model: Path = BASE
) -> dict[str, Any]:
    out = heldout.parent / name / "metrics.json"
    return evaluate(config, model=str(model), annotated=heldout, out=out, proto=None, iteration=-1)


def test_the_harness_scores_what_our_own_engine_answers(heldout: Path) -> None:
    """Same prompts, same greedy answers: its exact match is ours."""
    last = [{"function": "regex", "regex_pattern": "(-?[0-9]+)", "group_select": -1}]
    filters = [{"name": "last", "filter": [*last, {"function": "take_first"}]}]
    define(heldout, "demo_answer", "last_of_answer", filter_list=filters)
    found = measured(config_of(heldout, "last_of_answer"), heldout)
    ours = found["metrics"]["exact_match/last_number/greedy"]
    answers = read_records(heldout.parent / "out/metrics.greedy.jsonl", Response)
    assert any(EXTRACTORS["last_number"](answer.response) for answer in answers)
    assert 0 < ours["value"] < 1
    assert found["metrics"]["lm_eval/last_of_answer/exact_match/last"] == ours
    [(name, task)] = found["lm_eval"]["tasks"].items()
    assert (name, task["version"], task["num_fewshot"], task["n"]) == (
        *("last_of_answer", "1.0"),
        *(0, COUNT),
    )
    p = ours["value"]
    score = task["scores"]["exact_match,last"]
    assert score["stderr"] == pytest.approx((p * (1 - p) / (COUNT - 1)) ** 0.5)
    assert found["lm_eval"]["version"].startswith("0.4.")


def test_a_whole_policy_answers_beside_shared_weights(
    heldout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Likelihoods by two processes with half of the weights each; the harness asks all of them."""
    monkeypatch.setattr(sys, "executable", warm.python())
    config = config_of(heldout, "demo_choice")
    system = config.system.model_copy(update={"num_processes": 2, "shard": "on", "threads": 1})
    shared = config.model_copy(update={"system": system})
    alone = shared.model_copy(update={"system": system.model_copy(update={"shard": "off"})})
    assert measured(shared, heldout, "shared") == measured(alone, heldout, "alone")


def test_multiple_choice_is_the_likeliest_choice(heldout: Path) -> None:
    """Against summed log-probabilities of one unpadded sequence at a time."""
    found = measured(config_of(heldout, "demo_choice"), heldout)
    model = AutoModelForCausalLM.from_pretrained(BASE).eval()
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    right = 0
    for line in (heldout.parent / "tasks/questions.jsonl").read_bytes().splitlines():
        asked = orjson.loads(line)
        context = f"### Instruction: {asked['prompt']}\n\n### Response:"
        start, logps = len(tokenizer.encode(context)), []
        for choice in asked["choices"]:
            ids = torch.tensor([tokenizer.encode(f"{context} {choice}")])
            with torch.no_grad():
                each = model(ids).logits.log_softmax(-1)[0, :-1]
            logps.append(float(each.gather(-1, ids[0, 1:, None])[start - 1 :].sum()))
        right += logps.index(max(logps)) == asked["right"]
    assert found["metrics"]["lm_eval/demo_choice/acc"]["value"] == right / COUNT
    assert right < COUNT


def test_groups_fractions_and_few_shot_counts(heldout: Path) -> None:
    """A group has a score of its own; its members' stand in the details."""
    shots = {"fewshot_split": "test", "num_fewshot": 3}
    define(heldout, "demo_choice", "easy", **shots)
    define(heldout, "demo_choice", "hard", **shots)
    group = {"group": "both", "task": ["easy", "hard"], "metadata": {"version": 2.0}}
    group["aggregate_metric_list"] = [{"metric": "acc", "weight_by_size": True}]
    (heldout.parent / "tasks/both.yaml").write_text(yaml.safe_dump(group))
    config = config_of(heldout, "both", num_fewshot={"both": 1}, fraction=0.4)
    found = measured(config, heldout)
    tasks, n = found["lm_eval"]["tasks"], 5  # 0.4 of 12, rounded up
    assert {name: task["n"] for name, task in tasks.items()} == {
        **{"both": 2 * n, "easy": n},
        "hard": n,
    }
    assert {task["num_fewshot"] for task in tasks.values()} == {1}
    assert tasks["both"]["version"] == "2.0"
    names = [name for name in found["metrics"] if name.startswith("lm_eval/")]
    assert names == ["lm_eval/both/acc"]
    parts = [tasks[name]["scores"]["acc,none"]["value"] for name in ("easy", "hard")]
    assert found["metrics"]["lm_eval/both/acc"]["value"] == pytest.approx(sum(parts) / 2)
    again = measured(config, heldout, "again")
    assert again["metrics"] == found["metrics"]
    more = measured(config_of(heldout, "both", num_fewshot={"both": 0}), heldout, "more")
    assert more["lm_eval"]["tasks"]["easy"]["num_fewshot"] == 0
    assert more["lm_eval"]["tasks"]["easy"]["n"] == COUNT


def test_an_adapter_is_asked_with_its_base(heldout: Path, tmp_path: Path) -> None:
    adapter = save_adapter(BASE, tmp_path / "adapter", AutoTokenizer.from_pretrained(BASE))
    config = config_of(heldout, "demo_choice")
    plain, adapted = measured(config, heldout), measured(config, heldout, "adapted", adapter)
    merged = tmp_path / "merged"
    policy = load_policy(str(adapter), config.model, device=torch.device("cpu"), trainable=False)
    policy.merge_and_unload().save_pretrained(merged)
    AutoTokenizer.from_pretrained(BASE).save_pretrained(merged)
    name = "lm_eval/demo_choice/acc"
    assert adapted["metrics"][name] == measured(config, heldout, "m", merged)["metrics"][name]
    assert adapted["metrics"][name] != plain["metrics"][name]


def test_questions_go_through_the_chat_template(
    heldout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm_eval.models.huggingface import HFLM

    asked: list[str] = []
    ask = HFLM.loglikelihood

    def listen(self: HFLM, requests: list[Any], **options: Any) -> Any:
        asked.append(requests[0].args[0])
        return ask(self, requests, **options)

    monkeypatch.setattr(HFLM, "loglikelihood", listen)
    chat = tmp_path / "chat"
    shutil.copytree(BASE, chat)
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    tokenizer.chat_template = (
        "{% for m in messages %}[{{ m.role }} {{ strftime_now('%Y') }}]{{ m.content }}"
        "{{ eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}[assistant {{ strftime_now('%Y') }}]{% endif %}"
    )
    tokenizer.save_pretrained(chat)
    for name, template, given in (("a", "auto", None), ("b", "auto", False), ("c", "chat", True)):
        config = config_of(heldout, "demo_choice", chat_template=given, fraction=0.1)
        config = config.model_copy(
            update={
                "prompt": config.prompt.model_copy(update={"template": template}),
                "generate": config.generate.model_copy(update={"engine": "fake"}),
            }
        )
        measured(config, heldout, name, chat)
    assert asked[1].startswith("### Instruction: ")
    # 2024 is the day at which prompts stand still, whenever they are rendered.
    assert asked[0] == asked[2] == f"[user 2024]{asked[1]}<|end|>[assistant 2024]"
    # With settings that change the rendering: a header that the template writes with answers only.
    file = tmp_path / "own.jinja"
    file.write_text(
        "{% for m in messages %}{{ '(once) ' if once }}<{{ m.role }}>{{ m.content }}{{ eos_token }}"
        "{% endfor %}"
    )
    own = {"chat_template": str(file), "chat_template_kwargs": {"once": True}}
    config = config_of(heldout, "demo_choice", fraction=0.1)
    config = config.model_copy(
        update={
            "prompt": config.prompt.model_copy(update={"template": "auto", **own}),
            "generate": config.generate.model_copy(update={"engine": "fake"}),
        }
    )
    measured(config, heldout, "d")
    assert asked[3] == f"(once) <user>{asked[1]}<|end|>(once) <assistant>"


def test_a_killed_evaluation_asks_no_task_twice(
    heldout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(heldout, "demo_choice", "demo_answer", fraction=0.3)
    whole = measured(config, heldout, "whole")
    score, asked = tspin.evaluate.tasks.score, []

    def fail_at_second(model: Any, task: Any, **options: Any) -> dict[str, Any]:
        asked.append(task.request.name)
        if len(asked) == 2:
            raise TspinError("the machine is gone")
        return score(model, task, **options)

    monkeypatch.setattr(tspin.evaluate.tasks, "score", fail_at_second)
    with pytest.raises(TspinError, match="the machine is gone"):
        measured(config, heldout, "killed")
    assert not (heldout.parent / "killed/metrics.json").exists()
    assert measured(config, heldout, "killed") == whole
    assert asked == ["demo_choice", "demo_answer", "demo_answer"]
    whole_out = heldout.parent / "whole/metrics.json"
    for path in {*whole_out.parent.iterdir()} - {seconds_path(whole_out)}:
        assert (heldout.parent / "killed" / path.name).read_bytes() == path.read_bytes(), path.name


def test_other_questions_are_another_evaluation(heldout: Path) -> None:
    config = config_of(heldout, "demo_choice", fraction=0.1)
    measured(config, heldout)
    out = heldout.parent / "out/metrics.json"
    before = json.loads(out.with_name("metrics.json.manifest.json").read_bytes())
    questions = heldout.parent / "tasks/questions.jsonl"
    lines = questions.read_bytes().splitlines()
    questions.write_bytes(b"\n".join(reversed(lines)))
    measured(config, heldout)
    after = json.loads(out.with_name("metrics.json.manifest.json").read_bytes())
    assert before["inputs"]["task_folder"] != after["inputs"]["task_folder"]
    assert before["versions"]["lm_eval"] == after["parameters"]["lm_eval"]
    assert after["parameters"]["task_engine"] == "transformers"


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading one fails the test."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(tspin.evaluate.answers, "open_engine", refuse)
    monkeypatch.setattr(tspin.evaluate.step, "load_policy", refuse)


@pytest.mark.usefixtures("no_model")
def test_without_network_the_message_names_task_data_and_remedy(
    heldout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError) as raised:
        measured(config_of(heldout, "demo_choice", "gsm8k"), heldout)
    message = str(raised.value)
    assert "'gsm8k' needs openai/gsm8k of the Hugging Face Hub" in message
    assert "`tspin fetch-tasks gsm8k`" in message
    assert not (heldout.parent / "out").exists()


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("tasks", "harness", "message"),
    [
        (("gsm8j",), {}, "no task or group 'gsm8j', nor in .*tasks; did you mean .*'gsm8k'"),
        (("demo_anser",), {}, "did you mean 'demo_answer'"),
        (("papper",), {}, "did you mean .*'paper'"),
        (("humaneval",), {}, "'humaneval' runs code that the model wrote"),
        (("demo_answer", "demo_answer"), {}, "'demo_answer' is asked for twice"),
        (("demo_answer",), {"num_fewshot": {"gsm8k": 5}}, "names 'gsm8k', which is not in"),
        (("demo_answer",), {"task_folder": "nowhere"}, "nowhere: no such folder"),
        (("demo_answer",), {"backend": "vllm"}, "'vllm', which is not installed"),
        (("broken",), {}, "'broken' could not be loaded: .*missing.jsonl"),
    ],
)
def test_what_cannot_be_asked_is_one_clear_error(
    heldout: Path, tasks: tuple[str, ...], harness: dict[str, Any], message: str
) -> None:
    data = {"data_files": {"test": "missing.jsonl"}}
    define(heldout, "demo_answer", "broken", dataset_kwargs=data)
    with pytest.raises(InputError, match=message):
        measured(config_of(heldout, *tasks, **harness), heldout)
    assert not (heldout.parent / "out").exists()


def test_a_folder_of_tasks_may_have_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`datasets` takes brackets in the path of a file for a pattern."""
    monkeypatch.setenv("TSPIN_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "my [1] 'tasks' $HOME & *"
    for _ in range(2):
        shutil.copytree(TASKS, folder, dirs_exist_ok=True)
        question = {"prompt": "p", "answer": 1, "choices": ["a", "b"], "right": 0}
        (folder / "questions.jsonl").write_text(json.dumps(question) + "\n")
        (request,) = task_requests(EvaluateConfig(tasks=("demo_answer",)))
        (task,) = load_task(request, folder).loaded["tasks"].values()
        assert len(task.eval_docs) == 1


def test_the_commands_take_tasks(heldout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--tasks` goes over the configuration; `fetch-tasks` needs the network."""
    import huggingface_hub.constants

    out, folder = heldout.parent / "out/metrics.json", heldout.parent / "tasks"
    given = ["evaluate", "--model", str(BASE), "--annotated", str(heldout), "--out", str(out)]
    given += ["--tasks", "demo_choice", "--set", "evaluate.sampled=false"]
    given += ["--set", f"evaluate.harness.task_folder={folder}", "--set", "prompt.max_length=256"]
    given += ["--set", "generate.max_new_tokens=8", "--set", "system.device=cpu"]
    ran = CliRunner().invoke(app, given, catch_exceptions=False)
    assert ran.exit_code == 0
    assert re.search(r"lm_eval/demo_choice/acc +0\.\d{3} \[", ran.stdout)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="'hellaswag' needs Rowan/hellaswag"):
        CliRunner().invoke(app, ["fetch-tasks", "hellaswag"], catch_exceptions=False)
