"""The smoke test of a deployment: held-out prompts, greedily, against what was measured."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tspin.config import RunConfig
from tspin.errors import GateRefusedError, InputError
from tspin.registry import Registry
from tspin_pipelines.serving.champion import Champion, read_champion
from tspin_pipelines.serving.check.endpoint import Endpoint, Request
from tspin_pipelines.serving.check.heldout import Comparison, Expected, compare

__all__ = ["Check", "check_endpoint"]

_METRIC = re.compile(r"exact_match/(.+)/greedy")


@dataclass(frozen=True)
class Check:
    """What is asked, and what it is held against."""

    heldout: Path
    registry: str | None
    number: int | None
    """Of the champion; None is today's."""
    answers: Path | None
    """What an evaluation saw: `metrics.greedy.jsonl`."""
    config: RunConfig | None
    """Of the run; None goes by the registry, and by the defaults."""
    model: str
    """In requests."""
    margin: float
    """By how much a share may be lower than it was measured."""
    records: int | None
    """So many at most; None is all."""
    max_new_tokens: int | None
    parallel: int
    wait: float


def check_endpoint(
    endpoint: Endpoint, check: Check, say: Callable[[str], None]
) -> list[Comparison]:
    """Ask an endpoint, and compare.

    Args:
        endpoint: What is served.
        check: What is asked of it.
        say: Takes lines for people.

    Raises:
        GateRefusedError: it serves another model, or does worse than the margin allows.
        InputError: there is nothing to hold it against, or it refuses the requests.
        TspinError: it does not answer.
    """
    champion = None
    if check.registry is not None:
        champion = read_champion(Registry(check.registry), check.number)
    elif check.answers is None:
        raise InputError("give --registry, whose champion was measured, or --answers, or both")
    expected = Expected.read(
        check.heldout,
        check.answers,
        {} if champion is None else champion.record.metrics,
        _extractors(check, champion),
        most=check.records,
    )
    _refuse_other_model(endpoint.models(check.wait, say), check.model, champion)
    request = Request(check.model, _chats(check, champion), _max_new_tokens(check))
    with ThreadPoolExecutor(check.parallel) as pool:
        texts = pool.map(lambda record: endpoint.answer(record, request), expected.records)
        served = {record.id: text for record, text in zip(expected.records, texts, strict=True)}
    comparisons = compare(expected, served)
    table = _table(comparisons)
    if all(comparison.holds(check.margin) for comparison in comparisons):
        say(table)
        return comparisons
    raise GateRefusedError(
        f"refused: {endpoint.url} does worse than was measured by more than {check.margin:g}\n"
        f"{table}"
    )


def _extractors(check: Check, champion: Champion | None) -> tuple[str, ...]:
    """Those that the champion was measured with; of a run those that it names."""
    if champion is None:
        return () if check.config is None else check.config.evaluate.extractors
    found = filter(None, (_METRIC.fullmatch(name) for name in champion.record.metrics))
    measured = tuple(sorted(match[1] for match in found))
    if not measured and check.answers is None:
        raise InputError(
            f"{check.registry}: champion {champion.record.number} has no exact_match/.../greedy to "
            "hold an endpoint against; give --answers, its evaluation's metrics.greedy.jsonl"
        )
    return measured


def _chats(check: Check, champion: Champion | None) -> bool:
    template = "auto" if check.config is None else check.config.prompt.template
    if template != "auto":
        return template == "chat"
    if champion is None:
        raise InputError(
            "neither --registry nor a --config whose prompt.template is chat or instruction says "
            "how prompts are rendered"
        )
    return champion.chats


def _max_new_tokens(check: Check) -> int:
    if check.max_new_tokens is not None:
        return check.max_new_tokens
    if check.config is None:
        return 1024  # The default of generate.max_new_tokens.
    return check.config.evaluate.max_new_tokens or check.config.generate.max_new_tokens


def _refuse_other_model(names: list[str], model: str, champion: Champion | None) -> None:
    """A server of `tspin deploy` names its champion beside the name that requests use."""
    if model not in names:
        raise GateRefusedError(
            f"refused: no model is served as {model!r}; there are {', '.join(names) or 'none'}"
        )
    exact = [name for name in names if re.fullmatch(rf"{re.escape(model)}-[0-9a-f]{{12}}", name)]
    if champion is not None and exact and f"{model}-{champion.short}" not in exact:
        raise GateRefusedError(
            f"refused: {', '.join(exact)} is served, and champion {champion.record.number} is "
            f"{champion.short}"
        )


def _table(comparisons: list[Comparison]) -> str:
    rows = [("", "measured", "served", "n")]
    rows += [(c.name, f"{c.measured:.4g}", f"{c.served:.4g}", str(c.n)) for c in comparisons]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
