"""What of a configuration decides which steps a pipeline has, and what decides each step."""

from __future__ import annotations

import json

from pydantic import ValidationError

from tspin.config.loading import config_differences
from tspin.config.run import GateConfig, RunConfig
from tspin.config.system import SystemConfig
from tspin.errors import InputError

__all__ = ["parse_compiled", "step_settings", "structure"]

_ORDER = ("evaluate_beside", "speculate")
"""Settings of the system that say when steps run, and nothing to any of them."""


def structure(config: RunConfig) -> str:
    """Which steps a pipeline of this configuration has, as JSON: fixed once it is compiled."""
    decisive = {
        "iterations": config.iterations,
        "train.method is sft": config.train.method == "sft",
        "data.heldout is set": config.data.heldout is not None,
        "gate.margin is set": config.gate.margin is not None,
    }
    plays, gated = config.train.method != "sft", config.gate.margin is not None
    if plays and gated and not config.system.speculate:
        # Said only here: pipelines that were compiled before there was a choice stay valid.
        decisive["generation waits for the gate"] = True
    if config.train.method == "tspin_all":
        # Triplets then need inputs of their own, so no compiled pipeline may be given the method.
        decisive["train.method is tspin_all"] = True
    return json.dumps(decisive, sort_keys=True)


def parse_compiled(config: str, compiled: str) -> RunConfig:
    """The configuration that a compiled pipeline was given, checked against what it is made of.

    Args:
        config: JSON; whoever starts a run may have edited it.
        compiled: `structure` of the configuration that the pipeline was compiled with.

    Raises:
        InputError: it is no configuration, or one that needs other steps.
    """
    try:
        parsed = RunConfig.model_validate_json(config)
    except ValidationError as error:
        raise InputError(f"config: not a run configuration: {error}") from None
    changes = config_differences(json.loads(compiled), json.loads(structure(parsed)))
    if changes:
        listed = "\n".join(f"  {change}" for change in changes)
        raise InputError(
            f"config: this pipeline was compiled for other steps; what changed:\n{listed}\n"
            "Compile it again with this configuration"
        )
    return parsed


def step_settings(config: RunConfig) -> str:
    """The configuration as steps get it, as JSON: without what is decided between them.

    A step's cache then holds although the run is given more iterations, another gate or name.
    """
    order = {name: SystemConfig.model_fields[name].default for name in _ORDER}
    system = config.system.model_copy(update=order)
    plain = {"run_dir": "run", "iterations": 1, "gate": GateConfig(), "system": system}
    return config.model_copy(update=plain).model_dump_json()
