"""Seeds and choices that depend on what is drawn, never on when or beside what it is drawn."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable

__all__ = ["choose", "derive_seed"]


def derive_seed(run_seed: int, *parts: str | int) -> int:
    """A seed in [0, 2**63) from the run's seed and the parts that name one draw.

    Two different lists of parts never give the same hashed text.

    Example:
        >>> derive_seed(0, "synthetic", 1, "record-7") == derive_seed(0, "synthetic", 1, "record-7")
        True
    """
    text = "\x1f".join(f"{len(str(part))}:{part}" for part in (run_seed, *parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def choose(identities: Iterable[str], count: int) -> list[str]:
    """The ids whose hash is lowest: the same ones on every machine, whatever their order."""
    return heapq.nsmallest(count, identities, key=_hash)


def _hash(identity: str) -> bytes:
    return hashlib.blake2b(identity.encode(), digest_size=8).digest()
