"""Where objects are kept: a folder, S3, Google Cloud or Azure, behind one interface."""

from tspin.store.base import ConflictError, KeyMissingError, Store
from tspin.store.fetching import fetch
from tspin.store.location import exists, is_remote, working_folder
from tspin.store.opening import check_scheme, open_store
from tspin.store.publishing import Output, output_at

__all__ = [
    "ConflictError",
    "KeyMissingError",
    "Output",
    "Store",
    "check_scheme",
    "exists",
    "fetch",
    "is_remote",
    "open_store",
    "output_at",
    "working_folder",
]
