"""The log of one pod, line by line as it is written, each line once."""

from __future__ import annotations

import threading
from collections.abc import Callable

import urllib3

from tspin.errors import TspinError
from tspin_trainjob.cluster import Cluster

__all__ = ["PodLog"]


class PodLog:
    """Follows a log in a thread; a broken connection is made again where it broke."""

    def __init__(self, cluster: Cluster, pod: str, say: Callable[[str], None]) -> None:
        """Nothing is read yet.

        Args:
            cluster: Where the pod is.
            pod: Its name.
            say: Gets each line.
        """
        self._cluster, self._pod, self._say = cluster, pod, say
        self._last = ""
        self._thread: threading.Thread | None = None

    def follow(self) -> None:
        """Read in the background; does nothing while that goes on."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._read, args=(True,), daemon=True)
            self._thread.start()

    def finish(self, seconds: float) -> None:
        """Read what is left of a pod that has ended.

        Args:
            seconds: How long to wait for the connection that follows it.
        """
        if self._thread is not None:
            self._thread.join(seconds)
        self._read(follow=False)

    def _read(self, follow: bool) -> None:
        try:
            for line in self._cluster.log(self._pod, follow=follow):
                time, _, text = line.partition(" ")
                if time > self._last:
                    self._last = time
                    self._say(text)
        except (TspinError, urllib3.exceptions.HTTPError) as error:
            # The training goes on without anyone who listens; follow() is called again.
            self._say(f"(log of {self._pod} interrupted: {error})")
