"""One stage of dvc.yaml: a `tspin` command, what it watches and what it makes."""

from __future__ import annotations

from typing import Any

__all__ = ["check_stage", "curve", "foreach", "stage", "with_manifest"]

_PARAMS = "params.yaml"


def check_stage() -> dict[str, Any]:
    """Fails where dvc.yaml was written for another params.yaml."""
    return {
        "cmd": "tspin dvc sync --check",
        "params": ["iterations", "run_dir", "model", "data", "train.method"],
    }


def with_manifest(out: str) -> list[str]:
    """An output and the manifest beside it."""
    return [out, f"{out}.manifest.json"]


def curve(name: str, x: str, path: str) -> dict[str, Any]:
    """A plot of one value of one file.

    Args:
        name: Of the plot.
        x: Field of the x axis.
        path: The file with the rows.
    """
    return {name: {"x": x, "y": {path: name}, "title": f"{name} by {x}"}}


def foreach(items: list[dict[str, Any]], done: dict[str, Any]) -> dict[str, Any]:
    """A stage for each item."""
    return {"foreach": items, "do": done}


def stage(command: str, **fields: list[str]) -> dict[str, Any]:
    """A command with the lists that are not empty: deps, params, outs, metrics."""
    name, _, rest = command.partition(" ")
    listed = {key: values for key, values in fields.items() if values}
    return {"cmd": f"tspin {name} --config {_PARAMS} {rest}".strip(), **listed}
