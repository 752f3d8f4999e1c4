"""Component: refuse a wrong configuration and name the inputs by content, before anything runs."""

from typing import NamedTuple

from kfp import dsl

from tspin_components.image import IMAGE

__all__ = ["check_inputs"]


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def check_inputs(config: str, structure: str, model: str) -> NamedTuple(  # type: ignore[valid-type]
    "Checked",
    [
        ("settings", str),
        ("annotated", str),
        ("heldout", str),
        ("initial", str),
        ("policy", str),
    ],
):
    """Check the configuration and read what a run starts from. Never cached.

    The hashes are parameters of the steps that import data and model, so that those and all after
    them are taken from the cache exactly while the contents stay the same.

    Args:
        config: The run configuration, JSON.
        structure: What of it the pipeline was compiled for.
        model: The policy to start from: a folder that every pod can read, or a name on the Hub;
            empty for the initial policy.

    Returns:
        settings: What of the configuration decides single steps, JSON.
        annotated: Content hash of the annotated records.
        heldout: Content hash of the held-out records; empty if there are none.
        initial: Identity of the initial policy.
        policy: Identity of `model`.
    """
    from collections import namedtuple

    from tspin.config import parse_compiled, step_settings
    from tspin.models.policy import policy_identity
    from tspin.runs.inputs import data_hashes
    from tspin.tracking.trackers import check_trackers

    parsed = parse_compiled(config, structure)
    check_trackers(parsed)
    hashes = data_hashes(parsed)
    initial = policy_identity(parsed.model.path, parsed.model)
    Checked = namedtuple("Checked", ["settings", "annotated", "heldout", "initial", "policy"])
    return Checked(
        step_settings(parsed),
        hashes.annotated,
        hashes.heldout or "",
        initial,
        policy_identity(model, parsed.model) if model else initial,
    )
