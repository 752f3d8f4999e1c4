"""Decoding without wasted work: a shared beginning once, waiting rows for ended ones, drafts."""

from __future__ import annotations

from tspin.engines.decoding.rows import decode

__all__ = ["decode"]
