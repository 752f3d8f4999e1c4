"""Which trackers a run reports to, and whether they are there. Imports none of them."""

from __future__ import annotations

import logging
import os
from importlib.util import find_spec

from tspin.config import RunConfig
from tspin.errors import InputError, redacted

__all__ = [
    "DVCLIVE",
    "KUBEFLOW",
    "MLFLOW",
    "TENSORBOARD",
    "callback_names",
    "check_trackers",
    "handed_run",
    "is_tracked",
    "mlflow_address",
]

log = logging.getLogger(__name__)

DVCLIVE, KUBEFLOW, MLFLOW, TENSORBOARD = "dvclive", "kubeflow", "mlflow", "tensorboard"
"""As `system.report_to` names them."""

_PACKAGES = {
    DVCLIVE: (("dvclive",), "'tspin[dvc]'"),
    MLFLOW: (("mlflow",), "'tspin[mlflow]'"),
    TENSORBOARD: (("tensorboard", "tensorboardX"), "tensorboard"),
    "trackio": (("trackio",), "trackio"),
    "wandb": (("wandb",), "wandb"),
}
"""By tracker: one of these modules, and what pip calls the package."""

_OTHERS = [
    "azure_ml",
    "clearml",
    "codecarbon",
    "comet_ml",
    "dagshub",
    "flyte",
    "kubeflow",
    "neptune",
    "swanlab",
]
"""That transformers knows besides; importing it for this would take seconds."""

_RUN, _ADDRESS = "MLFLOW_RUN_ID", "MLFLOW_TRACKING_URI"


def check_trackers(config: RunConfig) -> None:
    """Refuse a tracker that is not known or not installed, before anything is computed.

    Raises:
        InputError: `system.report_to` names one that is not known or not installed, or mlflow
            without an address.
    """
    for name in config.system.report_to:
        if name not in (*_PACKAGES, *_OTHERS):
            known = ", ".join(sorted([*_PACKAGES, *_OTHERS]))
            raise InputError(f"system.report_to names {name!r}; the trackers are: {known}")
        modules, package = _PACKAGES.get(name, ((), ""))
        if modules and not any(find_spec(module) for module in modules):
            raise InputError(
                f"system.report_to names {name!r}, which is not installed; pip install {package}, "
                "or take it out"
            )
        if name == MLFLOW and not os.environ.get(_ADDRESS):
            raise InputError(
                f"system.report_to names 'mlflow', and {_ADDRESS} is not set; give it the address "
                "of the tracking server, such as https://mlflow.example.com"
            )


def callback_names(config: RunConfig) -> list[str]:
    """The trackers that are callbacks of transformers; the one of MLflow is not used.

    It would end a training where the server is away, and know nothing of the run around it.
    """
    names = [name for name in config.system.report_to if name not in (DVCLIVE, MLFLOW)]
    return list(dict.fromkeys(names))


def handed_run() -> str | None:
    """The MLflow run that whoever started this process made for it, as Kubeflow Pipelines does.

    Its MLflow plugin sets both variables in a task's container, if the cluster's configuration says
    `injectUserEnvVars` (backend/src/v2/common/plugins/mlflow/handler.go of KFP 2.17). The run is
    the task's own, nested in that of the pipeline.
    """
    if os.environ.get(_ADDRESS):
        return os.environ.get(_RUN) or None
    return None


def mlflow_address() -> str:
    """Of the tracking server, as it may be written down: without user and password."""
    return redacted(os.environ.get(_ADDRESS, "")) or "the address in MLFLOW_TRACKING_URI"


def is_tracked(config: RunConfig | None) -> bool:
    """Whether MLflow is told: `system.report_to` asks for it, or a run of it was handed down.

    Args:
        config: None of a step that has none.
    """
    asked = config is not None and MLFLOW in config.system.report_to
    if not asked and handed_run() is None:
        return False
    if find_spec(MLFLOW) is None:
        log.warning(
            "%s is to be told, but mlflow is not installed; nothing is sent. pip install "
            "'tspin[mlflow]'",
            mlflow_address(),
        )
        return False
    if not os.environ.get(_ADDRESS):  # mlflow would begin a store of its own in this folder.
        log.warning("MLflow is to be told, but %s is not set; nothing is sent", _ADDRESS)
        return False
    return True
