"""Tables that benchmarks write into a document, each between two comments that name it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from tspin.files import atomic_file

__all__ = ["replace_section", "table"]


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def replace_section(document: Path, name: str, text: str) -> None:
    """Put a text between `<!-- NAME -->` and `<!-- /NAME -->`.

    Args:
        document: A Markdown file with the section's two marks.
        name: Of the section.
        text: Between the marks.

    Raises:
        ValueError: the document has no such place.
    """
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before = document.read_text()
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    after, count = pattern.subn(lambda _: f"{begin}\n\n{text}\n\n{end}", before)
    if count != 1:
        raise ValueError(f"{document}: expected one '{begin}' ... '{end}', found {count}")
    with atomic_file(document) as file:
        file.write(after.encode())
