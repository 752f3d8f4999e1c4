"""Training logged by DVCLive, where `system.report_to` asks for it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from transformers import TrainerCallback
from transformers.integrations.integration_utils import DVCLiveCallback

from tspin.errors import InputError

__all__ = ["DVCLIVE", "dvclive_callback"]

DVCLIVE = "dvclive"
"""As `system.report_to` names it."""


def dvclive_callback(folder: Path) -> TrainerCallback:
    """Write metrics and plots of the training below `folder`/dvclive; no experiment is saved.

    A resumed training goes on in the same files.

    Raises:
        InputError: DVCLive is not installed.
    """
    if find_spec(DVCLIVE) is None:
        raise InputError(
            "system.report_to names 'dvclive', which is not installed; pip install 'tspin[dvc]', "
            "or take it out"
        )
    from dvclive.live import Live

    live = Live(str(folder / DVCLIVE), resume=True, report=None, save_dvc_exp=False, dvcyaml=None)
    return DVCLiveCallback(live)
