"""What the tasks ask for: how many requests, and how many tokens they take, without a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tspin.harness.loading import load_task
from tspin.harness.quiet import quiet
from tspin.harness.requests import TaskRequest
from tspin.harness.scoring import chosen_questions

__all__ = ["RequestLengths", "TaskLengths", "task_lengths"]

_BUILT = 32
"""Questions of each task whose prompts are built, evenly spread."""
_MAX_GENERATED = 256
"""Tokens of an answer where a task does not say (lm_eval's own max_gen_toks)."""


@dataclass(frozen=True)
class RequestLengths:
    """Tokens of one request."""

    prompt: int
    """Few-shot examples included, without what a chat template adds."""
    response: int
    """That is scored, or as long as the right answer where one is generated."""
    most: int
    """That may be generated; 0 where a given response is scored."""


@dataclass(frozen=True)
class TaskLengths:
    """The requests of one task, some of which stand for all."""

    name: str
    requests: int
    """How many there are."""
    lengths: tuple[RequestLengths, ...]

    @property
    def each(self) -> float:
        """How many requests one of `lengths` stands for."""
        return self.requests / len(self.lengths)


def task_lengths(
    request: TaskRequest, folder: Path | None, count_tokens: Callable[[str], int]
) -> list[TaskLengths]:
    """Count what a task asks; of a group, member by member.

    Every question is counted by its choices. Of `_BUILT` questions the prompts are built as they
    are asked, few-shot examples included.

    Args:
        request: The task or group.
        folder: Tasks of one's own.
        count_tokens: Of a text.

    Raises:
        InputError: as `tspin.harness.loading.load_task`: its data cannot be had here, for one.
    """
    task = load_task(request, folder)
    chosen = chosen_questions(task)
    counted = []
    for name, each in sorted(task.loaded["tasks"].items()):
        questions = range(len(each.eval_docs)) if chosen is None else chosen[name]
        some = [questions[at] for at in range(0, len(questions), -(-len(questions) // _BUILT))]
        with quiet():
            each.build_all_requests(samples=some)
            lengths = tuple(_lengths(each, count_tokens))
            total = sum(_asked(each, each.eval_docs[at]) for at in questions)
        counted.append(TaskLengths(name, total, lengths))
    return counted


def _asked(task: Any, doc: Any) -> int:
    """Requests of one question, without the work of making its prompt."""
    metadata = (task.config.task, 0, task.config.repeats)
    made = task.construct_requests(doc=doc, ctx="", metadata=metadata)
    return sum(one.repeats for one in (made if isinstance(made, list) else [made]))


def _lengths(task: Any, count_tokens: Callable[[str], int]) -> Iterator[RequestLengths]:
    for instance in task.instances:
        text, *rest = instance.args
        if instance.request_type == "generate_until":
            most = int(rest[0].get("max_gen_toks", _MAX_GENERATED))
            target = task.doc_to_target(instance.doc)
            answer = count_tokens(target) if isinstance(target, str) else most
            one = RequestLengths(count_tokens(text), min(max(answer, 1), most), most)
        else:
            # Of a rolling likelihood there is the text alone.
            response = count_tokens(rest[0]) if rest else 0
            one = RequestLengths(count_tokens(text), response, 0)
        yield from [one] * instance.repeats
