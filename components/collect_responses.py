"""Component: the responses of every iteration so far, in one artifact."""

from typing import Optional

from kfp import dsl

from tspin_components.image import IMAGE

__all__ = ["collect_responses"]


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def collect_responses(
    synthetic: dsl.Input[dsl.Dataset],
    collected: dsl.Output[dsl.Dataset],
    earlier: Optional[dsl.Input[dsl.Dataset]] = None,  # noqa: UP045  (kfp reads no other form)
) -> None:
    """Add an iteration's responses to those before; for a method that trains on all policies'.

    Args:
        synthetic: y' of the iteration.
        collected: Folder with responses.jsonl and its manifest for each iteration from 1 on.
        earlier: The same of the iterations before; without it this is the first.
    """
    from pathlib import Path

    from tspin_components.artifacts import collect, describe, earlier_in, records_in

    collect(collected.path, records_in(synthetic.path), earlier_in(earlier))
    collected.metadata.update(describe(Path(collected.path)))
