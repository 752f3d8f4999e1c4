"""What tasks download, fetched before anybody asks them: questions, metrics, tokenisers' data."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Iterator
from typing import Any

from tspin.config import EvaluateConfig
from tspin.errors import InputError
from tspin.harness.loading import LoadedTask, harness_version, load_task, remedy, without_package
from tspin.harness.requests import task_requests
from tspin.harness.scoring import score
from tspin.store import fetch

__all__ = ["fetch_tasks"]

log = logging.getLogger(__name__)

_ONE_QUESTION = 1e-9
"""A fraction: no task has so many questions that it were two."""


def fetch_tasks(config: EvaluateConfig) -> dict[str, int]:
    """Download what the tasks of a configuration need, into the caches of this process.

    Questions, examples and most metrics are loaded together with a task. Some tasks load a metric
    when they score an answer, so each is asked a question of a model without knowledge. Afterwards
    `tspin.harness.loading.load_task` and `tspin.harness.scoring.score` find all of it with
    HF_HUB_OFFLINE=1.

    Args:
        config: Its tasks, with their examples, and the folder of tasks of one's own, whose
            questions may be on the Hub as well.

    Returns:
        By task or group, how many questions there are.

    Raises:
        InputError: there is no such task, it is refused, needs a package that is missing, or
            something of it cannot be had; the message names the task.
    """
    harness_version()
    own = config.harness.task_folder
    folder = None if own is None else fetch(own)
    requests, questions = task_requests(config), {}
    with _failed_downloads():
        for number, request in enumerate(requests, start=1):
            log.info("fetch, task %s (%d of %d)", request.name, number, len(requests))
            task = load_task(request, folder, fresh=True)
            _rehearse(task)
            tasks = task.loaded["tasks"].values()
            questions[request.name] = sum(len(one.eval_docs) for one in tasks)
    return questions


def _rehearse(task: LoadedTask) -> None:
    """Score one answer to each task of a request, with whatever is loaded no sooner than that."""
    from lm_eval.models.dummy import DummyLM

    once = dataclasses.replace(task.request, fraction=_ONE_QUESTION)
    try:
        score(DummyLM(), dataclasses.replace(task, request=once), chat_template=False, seed=0)
    except OSError as error:
        name = task.request.name
        raise InputError(
            f"evaluate.tasks: {name!r} scores answers with something that is neither in the cache "
            f"here nor can be had: {error}. {remedy(name)}"
        ) from error
    except ImportError as error:
        raise without_package(task.request.name, error) from None
    except Exception as error:  # noqa: BLE001  (metrics are anybody's code)
        # A metric may stumble over an answer that no model would give. That is no reason to refuse
        # a run, and what cannot be downloaded is an OSError.
        log.warning("%s: its scoring was not tried: %r", task.request.name, error)


@contextlib.contextmanager
def _failed_downloads() -> Iterator[None]:
    """Let nltk raise where a download fails (nltk 3.10, downloader.Downloader.download).

    It returns False, which IFEval of lm-eval 0.4.13 does not look at: the task would fail hours
    later, when it splits the first answer into sentences.
    """
    import nltk

    download = nltk.download

    def strict(*arguments: Any, **options: Any) -> Any:
        try:
            return download(*arguments, **options, raise_on_error=True)
        except ValueError as error:
            raise RuntimeError(
                f"{error}; nltk takes it from raw.githubusercontent.com into ~/nltk_data, or where "
                "NLTK_DATA says"
            ) from None

    nltk.download = strict
    try:
        yield
    finally:
        nltk.download = download
