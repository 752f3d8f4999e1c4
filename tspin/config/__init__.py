"""The run configuration: schema and loading, without torch."""

from tspin.config.evaluation import EvaluateConfig, HarnessConfig
from tspin.config.loading import (
    FORMAT,
    NOT_THE_RESULT,
    config_differences,
    load_config,
    load_yaml,
    resolved,
)
from tspin.config.run import (
    DataConfig,
    GateConfig,
    GenerateConfig,
    ModelConfig,
    PromptConfig,
    RunConfig,
    TripletsConfig,
)
from tspin.config.structure import parse_compiled, step_settings, structure
from tspin.config.system import SystemConfig
from tspin.config.training import SUPERVISED, GuardConfig, LoraConfig, Method, TrainConfig

__all__ = [
    "FORMAT",
    "NOT_THE_RESULT",
    "SUPERVISED",
    "DataConfig",
    "EvaluateConfig",
    "GateConfig",
    "GenerateConfig",
    "GuardConfig",
    "HarnessConfig",
    "LoraConfig",
    "Method",
    "ModelConfig",
    "PromptConfig",
    "RunConfig",
    "SystemConfig",
    "TrainConfig",
    "TripletsConfig",
    "config_differences",
    "load_config",
    "load_yaml",
    "parse_compiled",
    "resolved",
    "step_settings",
    "structure",
]
