"""From a plan to a run on a server: compiled, checked, sent."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path

from tspin_pipelines.compile import compile_pipeline
from tspin_pipelines.kubeflow.server import Server
from tspin_pipelines.kubeflow.submit import Submission, submit
from tspin_pipelines.plan import Plan

__all__ = ["start_run"]


def start_run(
    plan: Plan,
    pipeline: str,
    server: Server,
    *,
    experiment: str,
    name: str | None = None,
    root: str | None = None,
    cron: str | None = None,
) -> str:
    """Compile a pipeline in a folder of its own and submit it.

    Args:
        plan: What it is compiled from.
        pipeline: Its name, one of `tspin_pipelines.compile.PIPELINES`.
        server: Where it runs.
        experiment: Made where it is not there.
        name: Of the run; None is made from the run folder's name and the time.
        root: Where artifacts go; None leaves it to the ConfigMap kfp-launcher of the namespace.
        cron: Six fields; None runs once.

    Returns:
        The id of the run, or of the recurring run.

    Raises:
        InputError: what is asked for is wrong; nothing was sent, or the server refused it.
        TspinError: the server cannot be reached, or refuses the caller.
    """
    started = datetime.now(UTC).strftime("%Y-%m-%d %H-%M-%S")
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / f"{pipeline}.yaml"
        compile_pipeline(pipeline, plan, package)
        submission = Submission(
            package=package,
            name=name or f"{Path(plan.config.run_dir).name} {started}",
            experiment=experiment,
            service_account=plan.profile.service_account,
            root=root,
            cron=cron,
        )
        submission.check()
        return submit(server, server.connect(), submission)
