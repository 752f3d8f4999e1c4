"""A compiled pipeline to the server: one run, or one each time a clock says so."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from kfp import Client

from tspin.errors import InputError
from tspin_pipelines.kubeflow.server import Server

__all__ = ["Submission", "check_cron", "submit"]

_ROOT = re.compile(r"(s3|gs|minio)://[a-z0-9][a-z0-9._-]*(/|$)")
"""What Kubeflow's launcher opens (backend/src/v2/objectstore)."""
_CRON_FIELDS = ("second", "minute", "hour", "day of month", "month", "day of week")


@dataclass(frozen=True)
class Submission:
    """What is submitted."""

    package: Path
    """Compiled YAML."""
    name: str
    """Of the run, or of the recurring run."""
    experiment: str
    parameters: dict[str, str] = field(default_factory=dict)
    service_account: str | None = None
    root: str | None = None
    """Prefix of all artifacts; None leaves it to the ConfigMap kfp-launcher of the namespace."""
    cron: str | None = None
    """Six fields, seconds first; None runs once, now."""
    no_cache: bool = False
    """Take nothing from the cache."""

    def check(self) -> None:
        """Refuse what the server would refuse later, or take and not understand.

        Raises:
            InputError: not a compiled pipeline, parameters that it does not have, a wrong cron.
        """
        if self.root is not None and not _ROOT.match(self.root):
            raise InputError(
                f"pipeline root is {self.root!r}; expected s3://, gs:// or minio:// and a bucket"
            )
        known = _parameters(self.package)
        for name in self.parameters:
            if name not in known:
                listed = ", ".join(sorted(known)) or "none"
                raise InputError(f"{self.package}: has no parameter '{name}'; it has {listed}")
        missing = [n for n, value in known.items() if not value and n not in self.parameters]
        if missing:
            raise InputError(f"{self.package}: needs a value for {', '.join(missing)}")
        if self.cron is not None:
            check_cron(self.cron)


def check_cron(expression: str) -> None:
    """Kubeflow counts seconds as well: five fields would mean something else.

    Raises:
        InputError: not six fields.
    """
    fields = expression.split()
    if expression.startswith("@") and len(fields) == 1:
        return
    if len(fields) != len(_CRON_FIELDS):
        raise InputError(
            f"cron is {expression!r}, with {len(fields)} fields; expected six "
            f"({', '.join(_CRON_FIELDS)}), such as '0 0 2 * * 6'"
        )


def submit(server: Server, client: Client, submission: Submission) -> str:
    """Start a run, or register a recurring one.

    Args:
        server: Where to.
        client: Of its API.
        submission: What, with its parameters.

    Returns:
        The id that the server gave it.

    Raises:
        InputError: see `Submission.check`; or the server refuses the pipeline.
        TspinError: the server cannot be reached, or refuses the caller.
    """
    submission.check()
    with server.told():
        experiment = client.create_experiment(
            name=submission.experiment, namespace=server.namespace
        )
        request: dict[str, Any] = {
            "experiment_id": experiment.experiment_id,
            "job_name": submission.name,
            "pipeline_package_path": str(submission.package),
            "params": submission.parameters,
            # Never True: that would also cache the step that looks at what the inputs are.
            "enable_caching": False if submission.no_cache else None,
            "service_account": submission.service_account,
            "pipeline_root": submission.root,
        }
        if submission.cron is None:
            return str(client.run_pipeline(**request).run_id)
        recurring = client.create_recurring_run(cron_expression=submission.cron, **request)
        return str(recurring.recurring_run_id)


def _parameters(package: Path) -> dict[str, bool]:
    """The parameters of a compiled pipeline: name to whether it has a default."""
    if not package.is_file():
        raise InputError(f"{package}: no such file; expected a compiled pipeline (YAML)")
    try:
        documents = list(yaml.load_all(package.read_text(), Loader=yaml.CSafeLoader))
        definitions = documents[0]["root"].get("inputDefinitions", {})
        inputs = definitions.get("parameters", {})
    except (yaml.YAMLError, KeyError, IndexError, TypeError, AttributeError, UnicodeDecodeError):
        raise InputError(f"{package}: not a compiled pipeline; make one with compile") from None
    return {
        name: "defaultValue" in spec or bool(spec.get("isOptional"))
        for name, spec in inputs.items()
    }
