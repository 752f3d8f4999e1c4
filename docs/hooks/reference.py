"""The pages of the reference, made from the code each time the documentation is built."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from reference_codes import exit_codes_page
from reference_commands import commands_page
from reference_metrics import metrics_page
from reference_settings import settings_page

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

__all__ = ["PAGES", "on_files"]

PAGES: dict[str, Callable[[], str]] = {
    "reference/commands.md": commands_page,
    "reference/configuration.md": settings_page,
    "reference/metrics.md": metrics_page,
    "reference/exit-codes.md": exit_codes_page,
}
"""Address below docs/ to what writes the page."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to those that stand in docs/; MkDocs calls this."""
    from mkdocs.structure.files import File

    for address, write in PAGES.items():
        files.append(File.generated(config, address, content=write()))
    return files
