"""What a signal does to a training."""

from __future__ import annotations

import os
import signal

from tspin.processes.launch import Termination


def test_sigterm_is_noted_only_inside_the_block() -> None:
    before = signal.getsignal(signal.SIGTERM)
    termination = Termination()
    with termination.noted():
        assert not termination.requested
        os.kill(os.getpid(), signal.SIGTERM)
        assert termination.requested
    assert signal.getsignal(signal.SIGTERM) is before
