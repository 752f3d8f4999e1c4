"""`tspin deploy-check`: pass or refuse, against a loopback server of OpenAI's protocol."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from served_models import champion
from typer.testing import CliRunner

from tests.ports import free_port, served
from tspin.errors import GateRefusedError, InputError, TspinError
from tspin.records.records import AnnotatedRecord, Message, Response, write_records
from tspin_pipelines.serving.commands import check_app

SIZE = 10


@dataclass
class Model:
    """What is served: answers by the last turn, under some names."""

    folder: Path
    url: str = ""
    names: list[str] = field(default_factory=lambda: ["tspin"])
    wrong: int = 0
    """How many of the first prompts it answers wrongly."""
    busy: int = 0
    """How many requests it turns away."""
    asked: list[tuple[str, Any]] = field(default_factory=list)

    def answer(self, path: str, body: Any) -> tuple[int, Any]:
        if path == "/v1/models":
            return 200, {"data": [{"id": name} for name in self.names]}
        if self.busy:
            self.busy -= 1
            return 503, {"error": "starting"}
        self.asked.append((path, body))
        if body["model"] not in self.names:
            return 404, {"error": "no such model"}
        text = body["prompt"] if "prompt" in body else body["messages"][-1]["content"]
        number = int(text.replace("\n", " ").split("number ")[1].split()[0])
        said = "nothing" if number < self.wrong else f" {number}\n"
        if path == "/v1/completions":
            return 200, {"choices": [{"text": said}]}
        return 200, {"choices": [{"message": {"content": said}}]}


@pytest.fixture
def model(tmp_path: Path) -> Iterator[Model]:
    state = Model(tmp_path)

    class Handler(BaseHTTPRequestHandler):
        def serve(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            code, answer = state.answer(self.path, json.loads(content) if content else None)
            text = json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = serve  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    records = [
        AnnotatedRecord(
            id=f"r{i}", messages=[Message(role="user", content=f"number {i} ?")], response=f"{i}"
        )
        for i in range(SIZE)
    ]
    write_records(tmp_path / "heldout.jsonl", records)
    answers = [
        Response(
            id=f"r{i}",
            response=f"{i}" if i < SIZE - 2 else "wrong",
            finish_reason="stop",
            prompt_tokens=1,
            response_tokens=1,
            seed=0,
        )
        for i in range(SIZE)
    ]
    write_records(tmp_path / "metrics.greedy.jsonl", answers)
    # Measured with 0.6 of 10 right.
    champion(tmp_path, tmp_path / "registry", 1, adapter=True, n=SIZE)
    with served(Handler) as state.url:
        yield state


def check(model: Model, *options: object, url: str | None = None, registry: bool = True) -> str:
    asked = ["--url", url or model.url, "--heldout", model.folder / "heldout.jsonl", *options]
    asked += ["--registry", model.folder / "registry"] if registry else []
    done = CliRunner().invoke(check_app, [str(one) for one in asked])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.stdout


def test_a_share_above_the_champions_less_the_margin_passes(model: Model) -> None:
    told = check(model)
    assert told.splitlines()[1] == "exact_match/exact/greedy  0.6       1       10"
    path, body = model.asked[0]
    assert (path, body["temperature"], body["max_tokens"]) == ("/v1/chat/completions", 0, 1024)
    model.wrong = 4
    check(model, url=f"{model.url}/v1/")
    model.wrong = 5
    with pytest.raises(GateRefusedError, match=r"by more than 0\.02\n.*\n.*0\.6       0\.5"):
        check(model)
    check(model, "--margin", 0.1)


def test_the_answers_that_an_evaluation_saw(model: Model) -> None:
    answers = ["--answers", model.folder / "metrics.greedy.jsonl"]
    with pytest.raises(GateRefusedError, match=r"same greedy answer        1         0\.8     10"):
        check(model, *answers)
    told = check(model, *answers, "--margin", 0.2)
    assert "exact_match/exact/greedy  0.8       1       10" in told
    # Without a registry nobody knows how prompts are rendered, until a configuration says it.
    with pytest.raises(InputError, match="says how prompts are rendered"):
        check(model, *answers, registry=False)
    config = model.folder / "run.yaml"
    config.write_text(
        "run_dir: r\nmodel: {path: m}\ndata: {annotated: a}\nprompt: {template: instruction}\n"
        "evaluate: {max_new_tokens: 7}\n"
    )
    check(model, *answers, "--margin", 0.2, "--config", config, registry=False)
    path, body = model.asked[-1]
    assert path == "/v1/completions"
    assert body["prompt"].startswith("### Instruction: number ")
    assert body["max_tokens"] == 7
    with pytest.raises(InputError, match="give --registry"):
        check(model, registry=False)


def test_another_model_than_the_champion_is_refused(model: Model) -> None:
    model.names = ["tspin", "tspin-0123456789ab"]
    with pytest.raises(GateRefusedError, match="tspin-0123456789ab is served, and champion 1 is"):
        check(model)
    model.names = ["other"]
    with pytest.raises(GateRefusedError, match="no model is served as 'tspin'; there are other"):
        check(model)


def test_other_records_than_those_of_the_evaluation_are_refused(model: Model) -> None:
    heldout = model.folder / "heldout.jsonl"
    heldout.write_text("".join(heldout.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(InputError, match=r"9 of its records have an answer.*measured on 10"):
        check(model)
    with pytest.raises(InputError, match="answers the id 'r9', which"):
        check(model, "--answers", model.folder / "metrics.greedy.jsonl")
    assert model.asked == []
    check(model, "--records", 3)
    assert len(model.asked) == 3


def test_a_server_that_is_busy_is_asked_again_and_one_that_is_not_there_is_told(
    model: Model,
) -> None:
    model.busy = 1
    assert "1       10" in check(model, "--parallel", 1)
    with pytest.raises(TspinError, match="does not answer"):
        check(model, url=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(InputError, match="expected http://HOST"):
        check(model, url="127.0.0.1")
    token = model.folder / "token"
    with pytest.raises(InputError, match="token: no such file"):
        check(model, "--token-file", token)
    token.write_text("abc\n")
    check(model, "--token-file", token)
    with pytest.raises(InputError, match="over https only"):
        check(model, "--token-file", token, url="http://example.com")


def test_what_speaks_no_such_protocol_is_told(model: Model) -> None:
    model.answer = lambda path, body: (200, ["hello"])  # type: ignore[method-assign]
    with pytest.raises(TspinError, match=r"/v1/models: no answer of OpenAI's protocol.*hello"):
        check(model)


def test_a_route_that_is_not_there_yet_is_waited_for(model: Model) -> None:
    own, answers = model.answer, [(404, {"error": "no route"})]
    model.answer = lambda path, body: (  # type: ignore[method-assign]
        answers.pop() if answers else own(path, body)
    )
    told = check(model, "--wait", 60)
    assert told.startswith(f"waiting for {model.url}: ")
    with pytest.raises(TspinError, match="404"):
        model.answer = lambda path, body: (404, {})  # type: ignore[method-assign]
        check(model)
