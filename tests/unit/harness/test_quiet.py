"""What the harness says while it is quiet: bars are lost, reasons are not."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest

from tspin.errors import InputError
from tspin.harness.loading import load_task
from tspin.harness.quiet import quiet
from tspin.harness.requests import TaskRequest

TASK = """\
task: mine
dataset_path: {path}
output_type: generate_until
test_split: test
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
"""


def test_bars_are_dropped_and_messages_are_not(capsys: pytest.CaptureFixture[str]) -> None:
    tqdm = pytest.importorskip("tqdm").tqdm
    with quiet():
        for _ in tqdm(range(3), desc="a bar", file=sys.stderr, mininterval=0):
            pass
        sys.stderr.write("the disk is nearly full\n")
    assert capsys.readouterr().err == "the disk is nearly full\n"


def test_who_kept_the_stream_is_heard_later(capsys: pytest.CaptureFixture[str]) -> None:
    """As the logging of a library that is first imported meanwhile."""
    with quiet():
        handler = logging.StreamHandler()
    handler.emit(logging.makeLogRecord({"msg": "Access to it is restricted"}))
    assert capsys.readouterr().err == "Access to it is restricted\n"


def test_errors_are_logged_and_kept_for_the_message(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("lm_eval.anything")
    with quiet(logging.DEBUG) as reasons:
        log.warning("until is not given, taking its default")
        log.debug("Skip /tasks/mine.yaml (not YAML)")
        log.error("it returned no list")
    assert [record.message for record in caplog.records] == ["it returned no list"]
    assert reasons.because("refused", None) == "refused (it returned no list)"
    expected = "refused (Skip /tasks/mine.yaml (not YAML); it returned no list)"
    assert reasons.because("refused", Path("/tasks")) == expected


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    pytest.importorskip("lm_eval", reason="lm-eval is not installed")
    return tmp_path


def test_a_broken_definition_is_not_an_unknown_task(tasks: Path) -> None:
    """The harness passes over such a file, and logs that for debugging only."""
    (tasks / "mine.yaml").write_text(TASK.format(path="json") + "filter_list: [\n")
    with pytest.raises(InputError) as raised:
        load_task(TaskRequest("mine"), tasks)
    message = str(raised.value)
    assert message.startswith(f"evaluate.tasks: 'mine' in {tasks} cannot be read (")
    assert f"{tasks}/mine.yaml" in message
    assert "did you mean" not in message
    assert "while parsing" in message


def test_a_gated_data_set_is_to_be_asked_for(tasks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither another network nor a filled cache helps."""
    import datasets
    from datasets.exceptions import DatasetNotFoundError

    def refuse(**_: object) -> None:
        logging.getLogger("lm_eval.api.task").error("tried twice")
        raise DatasetNotFoundError("Dataset 'own/gated' is a gated dataset on the Hub.")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    (tasks / "mine.yaml").write_text(TASK.format(path="own/gated"))
    with pytest.raises(InputError) as raised:
        load_task(TaskRequest("mine"), tasks)
    message = str(raised.value)
    assert "needs own/gated of the Hugging Face Hub, which you may not read: Dataset" in message
    assert "(tried twice). Ask for access on its page, then set HF_TOKEN" in message
    assert "HF_HUB_OFFLINE" not in message
