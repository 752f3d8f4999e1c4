"""Responses to prompts, in a file that appears whole; a killed run continues where it stopped."""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import orjson

from tspin.engines import Completion, Engine, SamplingParams
from tspin.errors import InputError, TspinError
from tspin.files import atomic_file
from tspin.generate.drafts import opened_drafts
from tspin.generate.journal import Journal
from tspin.generate.opening import planned
from tspin.generate.plan import ResponsePlan
from tspin.progress.display import progress
from tspin.records.manifest import journal_path
from tspin.records.records import AnnotatedRecord, Response, ResponseKey, read_records
from tspin.records.step_clock import phase, working
from tspin.tokens.prompts import PromptTemplate

__all__ = ["ResponseCounts", "write_responses"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ResponseCounts:
    """What became of the prompts."""

    counts: dict[str, int]
    """"records" written, of which "stop" and "length" (by finish reason) and "empty"; where there
    are any, "special_tokens": those with special tokens before their end."""
    dropped_ids: dict[str, list[str]]
    """Reason ("over_long") to the ids of the records left out."""


def write_responses(
    *,
    open_engine: Callable[[], Engine],
    template: PromptTemplate,
    records: Path | Iterable[AnnotatedRecord],
    sampling: SamplingParams,
    seed_of: Callable[[str], int],
    out: Path,
    decisive: Mapping[str, Any],
    max_length: int,
    over_long: Literal["error", "drop"],
    samples: int = 1,
    source: Path | None = None,
    drafts: Path | None = None,
    label: str = "generate",
) -> ResponseCounts:
    """Answer every prompt and write response records in the order of the input.

    Args:
        open_engine: Loads the engine; not called when nothing is left to do.
        template: Tokenises the prompts.
        records: A file of annotated records, or the records.
        sampling: For all prompts.
        seed_of: Record id to the seed of its response, of several the first.
        out: The output; an older one is replaced. Its journal stays until it has a manifest.
        decisive: What else decides the responses (JSON); with other values a journal is discarded.
        max_length: Tokens of prompt and response together.
        over_long: What becomes of a prompt that leaves no room for the response.
        samples: Responses to each prompt.
        source: The file of records that are given one by one.
        drafts: Responses to the same prompts that these may equal; they decide nothing.
        label: For the progress display.

    Raises:
        InputError: a broken record, or a prompt that is too long or refused by the template.
        TspinError: the engine failed, the disk is full, or another process writes the same file.
    """
    if isinstance(records, Path):
        source, records = records, read_records(records, AnnotatedRecord)
    rules: dict[str, Any] = {"over_long": over_long, "samples": samples, "seed_of": seed_of}
    rules |= {"max_prompt": _room(max_length, sampling), "source": source}
    own = {"template": template.hash, "sampling": dataclasses.asdict(sampling)}
    beside = not journal_path(out).is_file()  # With one there may be nothing left to ask.
    plan_all = partial(ResponsePlan.of, records, template, **rules)
    with planned(plan_all, open_engine, beside=beside) as (plan, engine_of):
        key = plan.key({**decisive, **own})
        with Journal.opened(out, key, plan) as journal:
            _answer(plan, journal, opened_drafts(drafts, template), engine_of, sampling, label)
            return _assemble(plan, journal, out)


def _room(max_length: int, sampling: SamplingParams) -> int:
    room = max_length - sampling.max_new_tokens
    if room < 1:
        raise InputError(
            f"generate.max_new_tokens ({sampling.max_new_tokens}) leaves no room for a prompt in "
            f"{max_length} tokens, the smaller of prompt.max_length and the model's context"
        )
    return room


def _answer(
    plan: ResponsePlan,
    journal: Journal,
    drafts: AbstractContextManager[Callable[[ResponseKey], tuple[int, ...]]],
    open_engine: Callable[[], Engine],
    sampling: SamplingParams,
    label: str,
) -> None:
    done = len(journal)
    if done == len(plan):
        return
    with drafts as draft_of, ExitStack() as opened:
        with phase("loading"):
            engine = opened.enter_context(closing(open_engine()))
        shown = opened.enter_context(progress(label, len(plan), done=done))
        opened.enter_context(working())
        for group in engine.generate(plan.requests(journal, draft_of), sampling):
            responses = [_as_record(completion) for completion in group]
            journal.append(responses)
            shown.advance(
                len(responses), tokens=sum(response.response_tokens for response in responses)
            )
    if len(journal) < len(plan):
        raise TspinError(f"the engine left {len(plan) - len(journal)} prompts without a response")


def _as_record(completion: Completion) -> Response:
    return Response(
        id=completion.id,
        response=completion.text,
        finish_reason=completion.finish_reason,
        prompt_tokens=completion.prompt_tokens,
        response_tokens=completion.response_tokens,
        seed=completion.seed,
        special_tokens=completion.special_tokens,
        sample=completion.sample,
    )


def _assemble(plan: ResponsePlan, journal: Journal, out: Path) -> ResponseCounts:
    """Write the journal's lines in the order of the input, and count them."""
    counts = Counter({"records": len(plan), "stop": 0, "length": 0, "empty": 0})
    with atomic_file(out) as file:
        for place in range(len(plan)):
            line = journal.line(place)
            file.write(line)
            response = orjson.loads(line)
            counts[response["finish_reason"]] += 1
            counts["empty"] += not response["response"]
            if response.get("special_tokens"):
                counts["special_tokens"] += 1
    if special := counts.get("special_tokens", 0):
        log.warning(
            "%s: %d of %d responses have special tokens inside, which stand in them by their "
            "names; should the model end there, name them in eos_token_id of its "
            "generation_config.json",
            out,
            special,
            len(plan),
        )
    return ResponseCounts(dict(counts), {"over_long": plan.over_long} if plan.over_long else {})
