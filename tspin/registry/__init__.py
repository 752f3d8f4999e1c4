"""Immutable models under their content hash, and one champion among them."""

from tspin.registry.comparison import Comparison
from tspin.registry.promotion import promote, rollback
from tspin.registry.record import Record
from tspin.registry.registry import Registry

__all__ = ["Comparison", "Record", "Registry", "promote", "rollback"]
