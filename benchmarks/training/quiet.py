"""Other libraries' progress bars and logs, off: the figures are what is to be read."""

from __future__ import annotations

import logging
import warnings

import transformers

__all__ = ["quiet"]


def quiet() -> None:
    """Show errors only, and let trainers print no logs."""
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.getLogger("tspin").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
