"""Pipelines whose inputs are only known when they are compiled."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from kfp import dsl

__all__ = ["sub_pipeline"]


def sub_pipeline(
    name: str,
    description: str,
    inputs: Mapping[str, Any],
    returns: Any,
    build: Callable[[dict[str, Any]], Any],
) -> Any:
    """A pipeline used as one node of another.

    kfp reads the inputs of a pipeline from the function's signature. What an iteration takes
    depends on the method and on whether there are held-out records, so the signature is made.

    Args:
        name: Of the node.
        description: Shown beside it.
        inputs: Name to type, as kfp wants them annotated.
        returns: The annotation of what `build` returns, or None.
        build: Makes the tasks from the inputs by name, and returns the outputs.
    """

    def graph(*values: Any) -> Any:
        return build(dict(zip(inputs, values, strict=True)))

    parameters = [
        inspect.Parameter(key, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=kind)
        for key, kind in inputs.items()
    ]
    annotation = inspect.Signature.empty if returns is None else returns
    graph.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        parameters, return_annotation=annotation
    )
    return dsl.pipeline(name=name, description=description)(graph)
