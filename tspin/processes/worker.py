"""One of several processes: what each does beside its work."""

from __future__ import annotations

import ctypes
import logging
import signal
import sys
from collections.abc import Callable

from torch.distributed.elastic.multiprocessing.errors import ErrorHandler

from tspin.errors import TspinError
from tspin.progress.logs import formatter
from tspin.records.process_start import count_process_start

__all__ = ["run_worker"]

_PR_SET_PDEATHSIG = 1


def run_worker(work: Callable[[str], object]) -> None:
    """Do the work that `tspin.processes.launch.launch` has started this process for.

    An error is left where the launcher looks for it, and the end of the launcher is the end here.

    Args:
        work: Gets the launcher's argument.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(formatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("tspin").setLevel(logging.INFO)
    if sys.platform == "linux":
        # A launcher killed by SIGKILL cannot tell its processes; they must not work on unseen.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    count_process_start()
    try:
        work(sys.argv[1])
    except TspinError as error:
        ErrorHandler().record_exception(error)
        sys.exit(error.exit_code)
    except Exception as error:
        ErrorHandler().record_exception(error)
        raise
