"""Where objects are kept: a folder or an S3 prefix, behind one interface."""

from tspin.store.base import ConflictError, KeyMissingError, Store
from tspin.store.opening import open_store

__all__ = ["ConflictError", "KeyMissingError", "Store", "open_store"]
