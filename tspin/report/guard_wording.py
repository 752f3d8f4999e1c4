"""What the report says where a guard's threshold was passed."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["GUARDS"]

GUARDS: Mapping[str, str] = MappingProxyType(
    {
        "annotated_logps_drop": (
            "at {count} logged steps logp(y) stood more than {threshold:g} nats a token below its "
            "start, so the policy unlearns the annotations, however good its margins look."
        ),
        "saturated_share": (
            "at {count} logged steps more than {threshold:.0%} of the samples had such a margin "
            "that their gradient vanishes, so more training on them teaches little."
        ),
        "length_drift": (
            "the mean lengths of y\u2032 and y lie apart by more than a factor of {threshold:g}."
        ),
    }
)
"""Setting in `train.guards` to the sentence when it was passed."""
