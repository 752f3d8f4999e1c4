"""Whether an endpoint for chats asks with the token that training put in front."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from served_models import champion

from tests.conftest import TokenizerFactory
from tspin.registry import Registry
from tspin_pipelines.profiles.profile import load_profile
from tspin_pipelines.serving.champion import read_champion
from tspin_pipelines.serving.release import Asked, serving_of
from tspin_pipelines.serving.start_token import unwritten_start

BARE = "{% for m in messages %}{{ m.content }}{% endfor %}"


def content(tokenizer: Any, folder: Path) -> dict[str, Any]:
    tokenizer.save_pretrained(folder)
    values: dict[str, Any] = json.loads((folder / "tokenizer.json").read_text())
    return values


@pytest.mark.parametrize("style", ["byte_level", "metaspace", "legacy"])
def test_a_template_without_the_bos_of_its_tokenizer_is_found(
    tokenizer_factory: TokenizerFactory, tmp_path: Path, style: str
) -> None:
    tokenizer = content(tokenizer_factory(style), tmp_path)
    assert unwritten_start(tokenizer, BARE) == "<s>"
    assert unwritten_start(tokenizer, "{{ bos_token }}" + BARE) is None
    assert unwritten_start(tokenizer, "<s>" + BARE) is None


def test_a_tokenizer_that_puts_nothing_in_front_leaves_nothing_out(
    tokenizer_factory: TokenizerFactory, tmp_path: Path
) -> None:
    assert unwritten_start(content(tokenizer_factory(bos=False), tmp_path), BARE) is None
    assert unwritten_start({}, BARE) is None


def test_it_is_found_among_several_steps(
    tokenizer_factory: TokenizerFactory, tmp_path: Path
) -> None:
    """As in the tokenizer of Llama 3."""
    tokenizer = content(tokenizer_factory(), tmp_path)
    steps = [{"type": "ByteLevel"}, tokenizer["post_processor"]]
    assert (
        unwritten_start({"post_processor": {"type": "Sequence", "processors": steps}}, BARE)
        == "<s>"
    )


def test_deploy_warns_of_such_a_champion(
    tokenizer_factory: TokenizerFactory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    registry = tmp_path / "registry"
    files = tmp_path / "files"
    for number, template in enumerate([BARE, "{{ bos_token }}" + BARE]):
        content(tokenizer_factory(chat_template=template), files)
        texts = {path.name: path.read_text() for path in files.iterdir()}
        champion(tmp_path, registry, number, files=texts)
    asked = [Asked("tspin", number, None, "x/y:1", None, 1, None, ()) for number in (1, 2)]
    profile = load_profile("eks-l4-spot")
    with caplog.at_level(logging.WARNING):
        for one in asked:
            serving_of(str(registry), profile, None, one)
    [warning] = [record.getMessage() for record in caplog.records]
    assert "champion 1: its chat template writes no <s>" in warning
    assert read_champion(Registry(str(registry)), 2).unwritten_start is None
