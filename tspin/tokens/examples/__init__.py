"""Examples to train on, as token ids, read from triplets or annotated records."""

from __future__ import annotations

from tspin.tokens.examples.dataset import Examples
from tspin.tokens.examples.example import ROLES, Example, roles_of
from tspin.tokens.examples.loading import load_examples

__all__ = ["ROLES", "Example", "Examples", "load_examples", "roles_of"]
