"""One training process: `python -m tspin.train.worker JOB`, started by `tspin.processes.launch`."""

from __future__ import annotations

import ctypes
import logging
import signal
import sys

from torch.distributed.elastic.multiprocessing.errors import ErrorHandler

from tspin.errors import TspinError
from tspin.train.job import TrainJob
from tspin.train.step import run_job

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Train as the job says; leave an error where the launcher looks for it."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("tspin").setLevel(logging.INFO)
    if sys.platform == "linux":
        # A launcher killed by SIGKILL cannot tell its processes; they must not train on unseen.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    try:
        run_job(TrainJob.model_validate_json(sys.argv[1]))
    except TspinError as error:
        ErrorHandler().record_exception(error)
        sys.exit(error.exit_code)
    except Exception as error:
        ErrorHandler().record_exception(error)
        raise


if __name__ == "__main__":
    main()
