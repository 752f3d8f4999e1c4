"""The HTTP endpoint that Prometheus asks: what the notes of a command's steps say, as metrics."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tspin.monitoring.families import FAMILIES, INFO, ITERATIONS, PHASES
from tspin.monitoring.monitored import EVERYWHERE, refused_port
from tspin.progress.status import NOTES, read_notes, run_id

__all__ = ["StepCollector", "serving"]

log = logging.getLogger(__name__)

_LABELS = ("run", "iteration", "step")
_AGE = "checkpoint_time"


class StepCollector(Collector):
    """Reads the notes each time somebody asks, and at no other time."""

    def __init__(self, folder: Path, *, run: str, iterations: int | None) -> None:
        """Read nothing yet.

        Args:
            folder: Of the notes.
            run: Its name.
            iterations: Of a whole run; None of a single step.
        """
        self._folder, self._run, self._iterations = folder, run, iterations

    def collect(self) -> Iterable[Metric]:
        """All values, a series for each step that runs; one without a value is left out."""
        # Two processes may do the same step, as for y0 and beside the loop; Prometheus refuses a
        # series that is there twice. The note that was written last counts.
        notes = {_labels(note): note for note in read_notes(self._folder)}
        if self._iterations is not None:
            iterations = GaugeMetricFamily(ITERATIONS.name, ITERATIONS.text, labels=("run",))
            iterations.add_metric((self._run,), self._iterations)
            yield iterations
        active = GaugeMetricFamily(INFO.name, INFO.text, labels=_LABELS)
        for labels in notes:
            active.add_metric(labels, 1)
        yield active
        for family in FAMILIES:
            gauge = GaugeMetricFamily(family.name, family.text, labels=_LABELS)
            for labels, note in notes.items():
                value = note.get(family.source)
                if value is not None and family.source == _AGE:
                    value = time.time() - value
                if value is not None:
                    gauge.add_metric(labels, value)
            yield gauge
        yield _phases(notes)


@contextmanager
def serving(port: int, *, iterations: int | None) -> Iterator[int]:
    """Answer on a port while the block works, and let the processes that it starts tell of it.

    Args:
        port: 0 takes any that is free, which a line of the log names.
        iterations: Of a whole run; None of a single step.

    Yields:
        The port.

    Raises:
        InputError: the port is not to be had.
    """
    with TemporaryDirectory(prefix="tspin-status-", ignore_cleanup_errors=True) as folder:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(StepCollector(Path(folder), run=run_id(), iterations=iterations))
        try:
            server, thread = start_http_server(port, addr=EVERYWHERE, registry=registry)
        except OSError as error:
            raise refused_port(port, error) from None
        before = os.environ.get(NOTES)
        os.environ[NOTES] = folder
        try:
            log.info("metrics for Prometheus on port %d", server.server_port)
            yield server.server_port
        finally:
            os.environ.pop(NOTES, None)
            if before is not None:
                os.environ[NOTES] = before
            server.shutdown()
            server.server_close()
            thread.join()


def _labels(note: dict[str, Any]) -> tuple[str, str, str]:
    iteration = note["iteration"]
    return note["run"], "" if iteration is None else str(iteration), note["step"]


def _phases(notes: dict[tuple[str, str, str], dict[str, Any]]) -> CounterMetricFamily:
    seconds = CounterMetricFamily(PHASES.name, PHASES.text, labels=(*_LABELS, "phase"))
    for labels, note in notes.items():
        for phase, spent in (note.get(PHASES.source) or {}).items():
            seconds.add_metric((*labels, phase), spent)
    return seconds
