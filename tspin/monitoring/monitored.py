"""Blocks of work that Prometheus may ask about; where it may not, nothing more is imported."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from tspin.config import RunConfig
from tspin.errors import InputError
from tspin.progress.logs import logs_as_asked
from tspin.progress.status import named_run

__all__ = ["EVERYWHERE", "check_client", "check_endpoint", "monitored", "refused_port"]

EVERYWHERE = "0.0.0.0"  # noqa: S104  (Prometheus asks from another pod; see the guide)


def check_endpoint(config: RunConfig) -> None:
    """Refuse an endpoint that cannot be, before anything is computed.

    Raises:
        InputError: prometheus-client is not installed, or the port is not to be had.
    """
    port = config.system.metrics_port
    if port is None or not _serves():
        return
    check_client()
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((EVERYWHERE, port))
        except OSError as error:
            raise refused_port(port, error) from None


def check_client() -> None:
    """Refuse to answer Prometheus without its library.

    Raises:
        InputError: it is not installed.
    """
    if find_spec("prometheus_client") is None:
        raise InputError(
            "Prometheus is to be answered (system.metrics_port), but prometheus-client is not "
            "installed; pip install 'tspin[metrics]'"
        )


def refused_port(port: int, error: OSError) -> InputError:
    """That a port is not to be had: a run that seems to be watched, and is not, helps nobody.

    Args:
        port: Asked for.
        error: Of the system.
    """
    return InputError(
        f"port {port} for Prometheus is not to be had here: {error.strerror or error}; another run "
        "may have it. Give system.metrics_port another, 0 for any that is free, or null for none"
    )


@contextmanager
def monitored(config: RunConfig, *, whole: bool = False) -> Iterator[None]:
    """Answer Prometheus while the block works, if `system.metrics_port` asks for that.

    Of several processes of a training that torchrun started the first one answers. Processes that
    this one starts tell it what they do (`tspin.progress.status`). Log lines get the run's name.

    Args:
        config: `system.metrics_port` and `run_dir` are used.
        whole: Whether the block is a whole run, of `config.iterations`.

    Raises:
        InputError: see `check_endpoint` and `tspin.progress.logs.log_format`.
    """
    with named_run(config.run_dir), logs_as_asked():
        port = config.system.metrics_port
        if port is None or not _serves():
            yield
            return
        check_endpoint(config)
        from tspin.monitoring.endpoint import serving

        with serving(port, iterations=config.iterations if whole else None):
            yield


def _serves() -> bool:
    return os.environ.get("RANK", "0") == "0"
