"""The configuration of each method of a comparison."""

from __future__ import annotations

import pytest

from tspin.compare import Comparison, parse_arms
from tspin.config import RunConfig
from tspin.errors import InputError

CONFIG = RunConfig.model_validate(
    {
        "run_dir": "runs/x",
        "model": {"path": "m"},
        "data": {"annotated": "a.jsonl", "heldout": "h.jsonl"},
        "evaluate": {"extractors": ["answer_is", "exact"]},
    }
)


def test_each_method_is_checked_with_the_configuration_that_it_runs_with() -> None:
    asked = Comparison(CONFIG, parse_arms(["field"]), [0])
    of = {arm.name: asked.of(arm) for arm in asked.arms}
    assert [config.train.method for config in of.values()] == [
        *["sft", "sft", "rft", "spin", "tspin", "space", "sdft"]
    ]
    assert {config.train.rft_extractor for config in of.values()} == {None, "answer_is"}
    assert of["rft"].train.rft_extractor == "answer_is"
    assert of["tspin"] == CONFIG


def test_an_extractor_of_its_own_stays() -> None:
    train = CONFIG.train.model_copy(update={"rft_extractor": "gsm8k"})
    own = {"rft": CONFIG.model_copy(update={"train": train})}
    asked = Comparison(CONFIG, parse_arms(["tspin", "rft"]), [0], own)
    assert asked.of(asked.arms[1]).train.rft_extractor == "gsm8k"


def test_a_method_that_cannot_be_had_is_named_before_anything_runs() -> None:
    link = CONFIG.train.model_copy(update={"link": "exponential"})
    config = CONFIG.model_copy(update={"train": link})
    with pytest.raises(InputError, match=r"--methods sdft: .*link is 'exponential'"):
        Comparison(config, parse_arms(["tspin", "sdft"]), [0])
