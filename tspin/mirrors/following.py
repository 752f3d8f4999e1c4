"""Mirrors follow the champion; none of them blocks a promotion, or undoes it."""

from __future__ import annotations

import logging
import shlex
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tspin.errors import InputError, TspinError, redacted
from tspin.mirrors.address import MLFLOW, Address
from tspin.mirrors.mirror import SECONDS, Mirror, RefusedError
from tspin.mirrors.state import State, checked_name, name_of
from tspin.registry import Registry
from tspin.store import is_remote

__all__ = ["Mirrors", "mirrored"]

log = logging.getLogger(__name__)

PATIENCE = 20.0
"""Seconds in which tries begin; so long does a promotion wait for its mirrors at most."""
_FIRST, _LONGEST = 0.5, 5.0
"""Seconds between two tries, twice as many each time."""


@dataclass(frozen=True)
class Mirrors:
    """Where a registry's champion is shown besides."""

    registry: str
    """URI of the registry, which alone decides who is the champion."""
    addresses: tuple[Address, ...]
    name: str
    """Of the registered model."""
    named: bool
    """Whether somebody chose that name."""

    @classmethod
    def of(cls, registry: str, mirrors: Sequence[str], name: str | None = None) -> Mirrors:
        """What the options name, looked at before anything is done.

        Args:
            registry: A folder, or `s3://bucket/prefix`.
            mirrors: As `--mirror` takes them.
            name: Of the registered model; None is made of the registry's URI.

        Raises:
            InputError: an address or the name is wrong, a client is not installed, or MLflow is to
                mirror a folder.
        """
        addresses = tuple(dict.fromkeys(Address.of(text) for text in mirrors))
        for address in addresses:
            address.check_installed()
            # Its server refuses paths of its own machine (mlflow/server/handlers.py of 3.17).
            if address.kind == MLFLOW and not is_remote(registry):
                raise InputError(
                    f"--mirror {address}: MLflow takes no model from a folder, and the registry is "
                    f"{registry}; put the registry on s3://, gs:// or az://"
                )
        return cls(
            registry, addresses, checked_name(name) if name else name_of(registry), bool(name)
        )

    def follow(self) -> None:
        """Bring all mirrors up to date within `PATIENCE`; name those that are not."""
        tries = [_Following(self, address) for address in self.addresses]
        for following in tries:
            following.thread.start()
        end = time.monotonic() + PATIENCE
        for following in tries:
            following.thread.join(max(0.0, end - time.monotonic()))
            if not following.done:
                log.warning(
                    "%s is not up to date with %s, where the champion stands all the same: %s. "
                    "This brings it up to date: %s",
                    following.address,
                    self.registry,
                    following.problem,
                    self.repair(following.address),
                )

    def sync(self) -> Iterator[str]:
        """Make all mirrors what the registry says, and everything that they hold of it.

        Yields:
            What was changed, a line each; one for a mirror that was up to date.

        Raises:
            TspinError: a mirror cannot be reached or refuses; those after it were brought up to
                date all the same.
        """
        problems = []
        for address in self.addresses:
            try:
                changes = _brought(self, address, whole=True)
            except Exception as error:  # noqa: BLE001  (the other mirrors are no worse for it)
                problems.append(f"{address}: {_told(error)}")
                continue
            yield from (f"{address}: {change}" for change in changes or ["up to date"])
        if problems:
            raise TspinError("\n".join(problems))

    def repair(self, address: Address) -> str:
        """The command that brings a mirror up to date."""
        command = ["tspin", "registry", "sync", "--registry", self.registry]
        command += ["--mirror", str(address), *(["--mirror-name", self.name] if self.named else [])]
        return shlex.join(command)


@contextmanager
def mirrored(registry: str, mirrors: Sequence[str], name: str | None = None) -> Iterator[None]:
    """Show in mirrors what the block does to a registry, once it is done.

    Args:
        registry: A folder, or `s3://bucket/prefix`.
        mirrors: As `--mirror` takes them; none costs nothing.
        name: Of the registered model; None is made of the registry's URI.

    Raises:
        InputError: as `Mirrors.of`, before the block.
    """
    if not mirrors:
        yield
        return
    followed = Mirrors.of(registry, mirrors, name)
    yield
    followed.follow()


class _Following:
    """One mirror that follows, in a thread that ends with the command at the latest."""

    def __init__(self, mirrors: Mirrors, address: Address) -> None:
        self.address = address
        self.done = False
        self.problem = f"not done within {PATIENCE:.0f} seconds"
        self._mirrors = mirrors
        self.thread = threading.Thread(target=self._run, name=str(address), daemon=True)

    def _run(self) -> None:
        def failed(error: Exception) -> None:
            self.problem = _told(error)

        try:
            for change in _brought(self._mirrors, self.address, whole=False, failed=failed):
                log.info("%s: %s", self.address, change)
            self.done = True
        except Exception as error:  # noqa: BLE001  (whatever it is, the promotion stands)
            failed(error)


def _brought(
    mirrors: Mirrors,
    address: Address,
    *,
    whole: bool,
    failed: Callable[[Exception], None] = lambda _: None,
) -> list[str]:
    """Bring a mirror up to date, with tries that begin within `PATIENCE`.

    Args:
        mirrors: Of which registry.
        address: Of the mirror.
        whole: See `Mirror.bring`.
        failed: Told of each try that did not come to its end.

    Raises:
        Exception: what the last try raised, or one that no other would mend.
    """
    mirror, registry = _opened(address), Registry(mirrors.registry)
    changes: list[str] = []
    end, wait = time.monotonic() + PATIENCE, _FIRST
    while True:
        try:
            state = State.of(registry, mirrors.name)
            if state is None:
                return changes
            changes += mirror.bring(state, whole=whole)
            # Another promotion since: whichever of the two writes last, writes the newer champion.
            if registry.records()[-1].number == state.number:
                return changes
        except RefusedError:
            raise
        except Exception as error:
            if time.monotonic() + wait > end:
                raise
            failed(error)
            time.sleep(wait)
            wait = min(wait * 2, _LONGEST)


def _opened(address: Address) -> Mirror:
    if address.kind == MLFLOW:
        from tspin.mirrors.mlflow import MlflowRegistry

        return MlflowRegistry(address)
    from tspin.mirrors.model_registry import ModelRegistry

    return ModelRegistry(address)


def _told(error: Exception) -> str:
    if isinstance(error, TimeoutError):  # It has no text of its own.
        return f"no answer within {SECONDS:.0f} seconds"
    text = str(error) if isinstance(error, TspinError) else f"{type(error).__name__}: {error}"
    return " ".join(redacted(text).split())[:300]
