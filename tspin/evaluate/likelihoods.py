"""How likely a policy finds each held-out annotation, kept so that two policies can be paired."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import orjson

from tspin.errors import located
from tspin.files import atomic_file
from tspin.records.estimate import Likelihood
from tspin.runs.folder import EvaluationFiles

__all__ = ["read_likelihoods", "write_likelihoods"]


def write_likelihoods(metrics: Path, likelihoods: Mapping[str, Likelihood]) -> None:
    """Write `metrics.likelihoods.jsonl` beside metrics.json: id, logp in nats, tokens.

    Args:
        metrics: Where metrics.json goes.
        likelihoods: Of the annotations, by record id.
    """
    with atomic_file(EvaluationFiles(metrics).likelihoods) as file:
        for identity, likelihood in likelihoods.items():
            row = {"id": identity, "logp": likelihood.logp, "tokens": likelihood.tokens}
            file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))


def read_likelihoods(metrics: Path) -> dict[str, Likelihood]:
    """What `write_likelihoods` has written.

    Raises:
        InputError: a line is damaged; with file and line.
    """
    likelihoods = {}
    path = EvaluationFiles(metrics).likelihoods
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            row = orjson.loads(line)
            likelihoods[row["id"]] = Likelihood(row["logp"], row["tokens"])
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise located(path, number, f"not a record's likelihood: {error}") from None
    return likelihoods
