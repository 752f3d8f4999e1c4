"""What every mirror can do, and how it says that it will not."""

from __future__ import annotations

from typing import Protocol

from tspin.errors import TspinError
from tspin.mirrors.state import REGISTRY, State

__all__ = ["SECONDS", "Mirror", "RefusedError", "not_ours"]

SECONDS = 10.0
"""That one call may take."""


class RefusedError(TspinError):
    """A mirror will answer the same when it is asked again: no rights, or a model of others."""


class Mirror(Protocol):
    """One registered model of another registry. Any call may be made again, after a kill too."""

    def bring(self, state: State, *, whole: bool) -> list[str]:
        """Make the registered model what a registry says; nothing where it is so.

        Versions come first and the champion last, so that a kill in between leaves the champion
        of before.

        Args:
            state: What it should hold.
            whole: Compare everything; else what costs a call for each version is compared for
                new versions and the champion alone.

        Returns:
            What was changed, a line each.

        Raises:
            RefusedError: asking again is of no use.
            Exception: what the client raises, for a server that is away.
        """


def not_ours(state: State, owner: str | None) -> RefusedError:
    """A registered model of this name that somebody else made.

    Args:
        state: What was to be mirrored.
        owner: The registry that it mirrors, if any.
    """
    whose = f"mirrors {owner}" if owner else f"was not made by tspin: it has no {REGISTRY}"
    return RefusedError(
        f"the registered model {state.name!r} is there already and {whose}; give another name "
        "with --mirror-name"
    )
