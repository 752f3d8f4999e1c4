"""The generated reference leaves nothing out; `make docs` checks its links."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from reference import PAGES
from reference_commands import walk
from reference_metrics import TRAINING_NAMES
from reference_settings import sections
from reference_text import docstring_of, docstring_text, table

import tspin
from tspin.errors import TspinError
from tspin.report.wording import GROUPS

ROOT = Path(__file__).parents[2]


def _page(name: str) -> str:
    return PAGES[f"reference/{name}.md"]()


def test_every_command_stands_there_with_its_options_and_arguments() -> None:
    page = _page("commands")
    commands = dict(walk())
    assert {"tspin run", "tspin data import", "tspin config schema"} <= {*commands}
    assert {"tspin pipeline profiles", "tspin pipeline profiles copy"} <= {*commands}
    for name, command in commands.items():
        section = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        for parameter in command.params:
            shown = parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.name
            assert shown.lower() in section.lower(), (name, shown)
            assert parameter.help.partition(";")[0].replace("|", "\\|") in section, (name, shown)


def test_a_default_of_zero_is_shown() -> None:
    section = _page("commands").partition("## tspin train\n")[2].partition("\n## ")[0]
    assert "| `--iteration` | integer, at least 0 | `0` |" in section


def test_every_setting_stands_there_with_its_meaning() -> None:
    page = _page("configuration")
    assert len([*sections()]) >= 11
    for name, model, _ in sections():
        section = page.partition(f"\n## {name or 'At the top'}\n")[2].partition("\n## ")[0]
        for key, field in model.model_fields.items():
            [row] = re.findall(rf"^\| `{key}` \|.*$", section, re.MULTILINE)
            words = (field.description or "").split()
            assert words[-1:] == [] or words[-1] in row


def test_every_metric_has_its_unit() -> None:
    page = _page("metrics")
    assert all(words.title in page and words.unit in page for words in GROUPS.values())


def test_names_of_the_training_log_are_those_of_the_code() -> None:
    assert {*TRAINING_NAMES} <= {*GROUPS}
    sources = "".join(path.read_text() for path in (ROOT / "tspin/train").glob("*.py"))
    for name in (name for names in TRAINING_NAMES.values() for name in names):
        assert f'"{name.replace("ROLE", "{role}")}"' in sources, name


def test_every_error_has_its_exit_code() -> None:
    page = _page("exit-codes")
    kinds = [TspinError, *TspinError.__subclasses__()]
    own = [kind for kind in kinds if kind.__module__ == "tspin.errors"]
    assert len(own) >= 3
    assert all(f"| {kind.exit_code} | `{kind.__name__}` |" in page for kind in own)


def test_a_cell_stays_in_its_row() -> None:
    assert (
        table(("a", "b"), [("x|y", "one\n two")])
        == "| a | b |\n| --- | --- |\n| x\\|y | one two |\n"
    )


def test_a_docstring_ends_before_its_arguments() -> None:
    assert (
        docstring_text("It works.\n\n    Well.\n\n    Args:\n        a: b\n")
        == "It works.\n\nWell."
    )
    with pytest.raises(LookupError, match="no function nowhere"):
        docstring_of("evaluate", "nowhere")


def test_the_citation_is_that_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == tspin.__version__
    assert "2601.08198" in citation["references"][0]["url"]
