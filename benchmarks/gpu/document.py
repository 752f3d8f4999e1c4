"""What was found, as the Markdown section of docs/reference/performance.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.gpu.plan import PARTS
from benchmarks.markdown import table

__all__ = ["section"]

_GIBIBYTE = 2**30


def section(outcome: Mapping[str, Any]) -> str:
    """A paragraph about the machine, and a table for each part that left figures.

    Args:
        outcome: As the JSON file has it.
    """
    parts = outcome["parts"]
    blocks = [_about(outcome)]
    for part in PARTS[1:]:
        found = parts.get(part.name)
        if found is None:
            continue
        text = _found(part.name, found.get("result") or {})
        note = "" if found["status"] == "done" else _undone(found)
        blocks.append("\n\n".join(word for word in (f"**{part.title}.** {note}", text) if word))
    return "\n\n".join(block.strip() for block in blocks)


def _found(name: str, result: Mapping[str, Any]) -> str:
    try:
        return _TABLES[name](result)
    except KeyError:
        return ""  # It ended before there was so much.


def _undone(found: Mapping[str, Any]) -> str:
    why = found.get("error") or found.get("reason")
    first = str(why).splitlines()[0] if why else "no reason was given"
    return f"{found['status'].capitalize()}: {first}"


def _about(outcome: Mapping[str, Any]) -> str:
    prepared = outcome["parts"].get("prepare", {}).get("result", {})
    environment, model = prepared.get("environment"), prepared.get("model")
    if environment is None or model is None:
        return f"Nothing was measured. {_undone(outcome['parts']['prepare'])}"
    gpus = [f"{gpu['name']} ({_gib(gpu['memory_bytes'])} GiB)" for gpu in environment["gpus"]]
    where = ", ".join(gpus) or environment["processor"]
    driver = f", driver {environment['driver']}" if environment["driver"] else ""
    versions = ", ".join(
        f"{name} {version}" for name, version in environment["versions"].items() if version
    )
    toy = "Toy size on a CPU: these figures mean nothing. " if outcome["toy"] else ""
    return (
        f"{toy}{environment['date']}, {where}{driver}, {model['parameters'] / 1e6:,.1f}M "
        f"parameters ({model['shape']}), {model['dtype']}, {versions}. "
        f"Command: `{environment['command']}`, {outcome['seconds']:.0f} s."
    )


def _step(result: Mapping[str, Any]) -> str:
    rows = [
        [
            profile,
            f"`{name}`",
            f"{speeds['triplets_per_second']:.2f}",
            f"{speeds['tokens_per_second']:,.0f}",
            f"{speeds['mfu']:.1%}",
            _gib(found["peak_memory_bytes"][name]),
        ]
        for profile, found in result["profiles"].items()
        for name, speeds in found["contenders"].items()
    ]
    header = ["profile", "contender", "triplets (pairs)/s", "tokens/s", "MFU", "peak GiB"]
    ratios = [
        [
            profile,
            *(
                f"**{found['ratios'][name]:.2f}** ({low:.2f} to {high:.2f})"
                for name, (low, high) in found["spread"].items()
            ),
            f"{found['trl_padding']:.0%}",
        ]
        for profile, found in result["profiles"].items()
    ]
    names = ["over TRL with reference", "over TRL, precomputed", "iteration 0 over TRL's"]
    rate = f"{result['matrix_flops_per_second'] / 1e12:,.1f}"
    return (
        f"{table(header, rows)}\n\n{table(['profile', *names, 'padding in TRL'], ratios)}\n\n"
        f"MFU is of {rate} TFLOP/s, what this device was measured to do at multiplying matrices."
    )


def _kernels(result: Mapping[str, Any]) -> str:
    rows = [
        [
            precision,
            name,
            _small(found.get("off_padded")),
            _small(found["off_float32"]),
            _small(found.get("gradient_off_padded")),
            f"{1000 * found['seconds']:.1f}",
        ]
        for precision, kernels in result["precisions"].items()
        for name, found in kernels.items()
    ]
    header = ["precision", "rows", "off padded", "off float32", "gradient", "ms a pass"]
    return (
        f"{table(header, rows)}\n\nThe largest difference of {result['responses']} responses, in "
        "nats over the root of its tokens; of the gradient, the length of the difference over its "
        "own length, from padded rows of the same precision."
    )


def _memory(result: Mapping[str, Any]) -> str:
    rows = [
        [
            name,
            _gib(found["allocated_bytes"]),
            _gib(found["estimated_bytes"]),
            f"**{found['estimated_over_allocated']:.2f}**",
            _gib(found["reserved_bytes"]),
            _gib(found["estimated_with_overhead_bytes"]),
        ]
        for name, found in result["cases"].items()
    ]
    header = ["trained", "allocated", "estimated", "ratio", "reserved", "estimated with overhead"]
    return f"{table(header, rows)}\n\nPeaks in GiB, {result['model']}."


def _resume(result: Mapping[str, Any]) -> str:
    same, files = sum(result["same_bytes"].values()), len(result["same_bytes"])
    return (
        f"SIGKILL at step {result['killed_at']} of {result['steps']}, continued after step "
        f"{result['continued_after']}: {same} of {files} files have the same bytes as those of a "
        "training that never stopped."
    )


def _sharding(result: Mapping[str, Any]) -> str:
    rows = [
        [
            name,
            _gib(max(result[name]["allocated_bytes"])),
            _gib(max(result[name]["reserved_bytes"])),
            f"{result[name]['tokens_per_second']:,.0f}",
            "" if (mfu := result[name]["mfu"]) is None else f"{mfu:.1%}",
        ]
        for name in ("ddp", "sharded")
    ]
    header = [
        f"{result['processes']} processes",
        "allocated GiB",
        "reserved GiB",
        "tokens/s",
        "MFU",
    ]
    return (
        f"{table(header, rows)}\n\nOf the process with the most. The trained weights are up to "
        f"{result['weights_apart']:.2g} apart."
    )


def _generation(result: Mapping[str, Any]) -> str:
    free = result["free_bytes"]
    rows = [[when, _gib(size)] for when, size in free.items()]
    training = result["training"]
    return (
        f"Engine `{result['engine']}`, {result['prompts']:,} prompts, {result['tokens']:,} tokens: "
        f"**{result['tokens_per_second']:,.0f} tokens/s**, started in "
        f"{result['start_seconds']:.0f} s. Then {training['steps']} steps of training in the same "
        f"process, peak {_gib(training['allocated_bytes'])} GiB.\n\n"
        f"{table(['free memory', 'GiB'], rows)}"
    )


def _longest(result: Mapping[str, Any]) -> str:
    rows = [
        [f"`{name}`", str(found["triplets"]), f"{found['tokens']:,}"]
        for name, found in result["contenders"].items()
    ]
    return (
        f"{table(['contender', 'triplets (pairs)', 'positions'], rows)}\n\n"
        f"Found to {result['grain']} triplets."
    )


_TABLES = {
    "step": _step,
    "kernels": _kernels,
    "memory": _memory,
    "resume": _resume,
    "sharding": _sharding,
    "generation": _generation,
    "longest": _longest,
}


def _gib(size: float) -> str:
    return f"{size / _GIBIBYTE:.2f}"


def _small(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}"
