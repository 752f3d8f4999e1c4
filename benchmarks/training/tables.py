"""The results as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.markdown import table
from benchmarks.training.contenders import CONTENDERS

__all__ = ["environment_line", "growth_table", "longest_table", "profiles_tables"]

_GIBIBYTE = 2**30


def profiles_tables(profiles: Mapping[str, Any]) -> str:
    """Ratios and the spread over the rounds, then raw figures, a row a profile."""
    ratios = table(
        [
            "profile",
            "batch",
            "triplets/s over TRL's pairs/s, TRL with reference",
            "TRL with precomputed reference",
            "iteration 0 (pairs), TRL with reference",
            "peak memory over TRL's with reference",
            "padding in TRL's batches",
        ],
        [_ratio_row(name, result) for name, result in profiles.items()],
    )
    raw = table(
        ["profile", *(f"`{name}`" for name in CONTENDERS)],
        [_raw_row(name, result) for name, result in profiles.items()],
    )
    return f"{ratios}\n\nTriplets (pairs) a second, and peak memory in GiB:\n\n{raw}"


def growth_table(growth: Mapping[str, Any]) -> str:
    """Seconds a step by tokens in its batch, and the exponent."""
    rows = [
        [
            str(cost["triplets"]),
            f"{cost['tokens']:,}",
            f"{cost['seconds']:.2f}",
            f"{1000 * cost['seconds'] / cost['tokens']:.3f}",
        ]
        for cost in growth["costs"]
    ]
    costs = table(["triplets", "tokens", "seconds a step", "seconds a 1,000 tokens"], rows)
    return f"{costs}\n\nFitted: seconds grow with tokens to the power {growth['exponent']:.2f}."


def longest_table(profiles: Mapping[str, Mapping[str, int]]) -> str:
    """The most triplets or pairs in one pass, a row a profile."""
    rows = [[name, *(str(sizes[who]) for who in CONTENDERS)] for name, sizes in profiles.items()]
    counts = table(["profile", *(f"`{name}`" for name in CONTENDERS)], rows)
    return f"Most triplets (pairs) in one forward and backward pass:\n\n{counts}"


def environment_line(environment: Mapping[str, Any], model: Mapping[str, Any]) -> str:
    """Date, model, device, versions and command in one paragraph."""
    versions = ", ".join(
        f"{name} {environment[name]}"
        for name in ("python", "torch", "transformers", "accelerate", "peft", "trl")
    )
    return (
        f"{environment['date']}, {model['parameters'] / 1e6:.1f}M parameters, {model['dtype']}, "
        f"{'LoRA' if model['lora'] else 'all weights trained'}, {environment['device']}, "
        f"threads: {environment['threads']}, {versions}. Command: `{environment['command']}`."
    )


def _ratio_row(name: str, result: Mapping[str, Any]) -> list[str]:
    def ratio(key: str) -> str:
        low, high = result["spread"][key]
        return f"**{result['ratios'][key]:.2f}** ({low:.2f} to {high:.2f})"

    return [
        name,
        str(result["task"]["batch"]),
        ratio("vs_trl_reference"),
        ratio("vs_trl_precomputed"),
        ratio("iteration0_vs_trl_reference"),
        f"**{result['ratios']['peak_memory_vs_trl_reference']:.2f}**",
        f"{result['trl_padding']:.0%}",
    ]


def _raw_row(name: str, result: Mapping[str, Any]) -> list[str]:
    def cell(contender: str) -> str:
        peak = result["peak_memory_bytes"][contender] / _GIBIBYTE
        mfu = result["mfu"].get(contender)
        return f"{result['per_second'][contender]:.2f}, {peak:.2f}" + (
            f", {mfu:.0%} of the matrix rate" if mfu is not None else ""
        )

    return [name, *(cell(contender) for contender in CONTENDERS)]
