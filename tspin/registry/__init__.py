"""Immutable models under their content hash, and one champion among them."""

from tspin.registry.champions import Registry
from tspin.registry.gate import PromotionGate
from tspin.registry.promotion import promote, rollback
from tspin.registry.record import Record

__all__ = ["PromotionGate", "Record", "Registry", "promote", "rollback"]
