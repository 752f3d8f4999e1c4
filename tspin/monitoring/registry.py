"""A registry for Prometheus: its champions, and those that came another way than through CI."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from datetime import datetime

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tspin.errors import TspinError
from tspin.monitoring.families import CHAMPION, CHAMPION_TIME, RECORDS, UP
from tspin.monitoring.monitored import EVERYWHERE, refused_port
from tspin.registry import Registry
from tspin.registry.record import Record

__all__ = ["RegistryCollector", "serve_registry"]

log = logging.getLogger(__name__)


class RegistryCollector(Collector):
    """Reads the records each time somebody asks: a few hundred bytes each."""

    def __init__(self, registry: str, ci: re.Pattern[str]) -> None:
        """Read nothing yet.

        Args:
            registry: A folder or a URI.
            ci: What the `run` of a promotion through CI begins with.
        """
        self._registry, self._ci = Registry(registry), ci

    def collect(self) -> Iterable[Metric]:
        """The values; of a registry that cannot be read only that it cannot."""
        up = GaugeMetricFamily(UP.name, UP.text)
        try:
            records = self._registry.records()
        except TspinError as error:
            log.warning("%s", error)
            up.add_metric((), 0)
            yield up
            return
        up.add_metric((), 1)
        yield up
        yield self._counted(records)
        if records:
            champion = records[-1]
            number = GaugeMetricFamily(CHAMPION.name, CHAMPION.text)
            number.add_metric((), champion.number)
            since = GaugeMetricFamily(CHAMPION_TIME.name, CHAMPION_TIME.text)
            since.add_metric((), datetime.fromisoformat(champion.at).timestamp())
            yield from (number, since)

    def _counted(self, records: list[Record]) -> Metric:
        counts = CounterMetricFamily(RECORDS.name, RECORDS.text, labels=("kind", "ci"))
        kinds = [(record.kind, self._through_ci(record)) for record in records]
        # Zeros too: a series that begins at 1 has not increased, for Prometheus.
        for kind, ci in (("promote", "true"), ("promote", "false"), ("rollback", "false")):
            counts.add_metric((kind, ci), sum(found == (kind, ci) for found in kinds))
        return counts

    def _through_ci(self, record: Record) -> str:
        # A rollback keeps the `run` of the champion it goes back to, and is a command of its own.
        through = record.kind == "promote" and self._ci.match(record.run or "") is not None
        return "true" if through else "false"


def serve_registry(registry: str, port: int, ci: re.Pattern[str]) -> None:
    """Answer Prometheus about a registry until this process is ended.

    Args:
        registry: A folder or a URI.
        port: 0 takes any that is free, which a line of the log names.
        ci: See `RegistryCollector`.

    Raises:
        InputError: the port is not to be had.
    """
    metrics = CollectorRegistry(auto_describe=False)
    metrics.register(RegistryCollector(registry, ci))
    try:
        server, thread = start_http_server(port, addr=EVERYWHERE, registry=metrics)
    except OSError as error:
        raise refused_port(port, error) from None
    log.info("metrics for Prometheus on port %d", server.server_port)
    thread.join()
