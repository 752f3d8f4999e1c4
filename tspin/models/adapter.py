"""What an adapter's description says of it: its kind, and the rank that vLLM keeps room for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tspin.errors import InputError

__all__ = ["check_lora", "served_rank"]

_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM's `max_lora_rank` may be (vllm/config/lora.py, MaxLoRARanks)."""


def check_lora(values: Mapping[str, Any], place: str) -> None:
    """Refuse an adapter of another kind.

    Args:
        values: Of its adapter_config.json.
        place: Of the adapter, for the message.

    Raises:
        InputError: it is not LoRA.
    """
    kind = values.get("peft_type")
    if kind != "LORA":
        raise InputError(f"{place}: is a {kind} adapter; only LORA is supported")


def served_rank(values: Mapping[str, Any], place: str, instead: str) -> int:
    """The smallest `max_lora_rank` of vLLM that an adapter fits.

    Args:
        values: Of its adapter_config.json.
        place: Of the adapter, for the message.
        instead: What else than merging it can be done where there is none.

    Raises:
        InputError: its rank is above all that vLLM serves.
    """
    rank = max([int(values["r"]), *(values.get("rank_pattern") or {}).values()])
    fitting = [size for size in _RANKS if size >= rank]
    if not fitting:
        raise InputError(
            f"{place}: its LoRA rank is {rank}; vLLM serves ranks up to {_RANKS[-1]}. Merge it "
            f"into its base, or {instead}"
        )
    return fitting[0]
