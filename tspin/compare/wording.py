"""The words of the comparison's own figures: what each shows, and what to look for in it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from tspin.report.wording import Wording

__all__ = ["CLOSING_GAPS", "EFFICIENCY", "HELDOUT_GAPS", "TRAINING"]

TRAINING: Mapping[str, Wording] = MappingProxyType(
    {
        "logps/annotated": Wording(
            "Log-likelihood of y in training",
            "nats",
            "Look for lines that rise from iteration to iteration; a method whose line falls "
            "unlearns the annotations, however good its rewards look.",
        ),
        "logps/synthetic": Wording(
            "Log-likelihood of y\u2032 in training",
            "nats",
            "Look for a fall within each iteration, and a start of the next, with y\u2032 written "
            "anew, that does not sink with it.",
        ),
        "rewards/annotated": Wording(
            "Reward of y",
            "nats",
            "Look for lines that rise. Their heights do not compare: T-SPIN's reward is alpha "
            "times the log-likelihood, and SPIN's, relative to a reference, begins each iteration "
            "at 0.",
        ),
        "rewards/synthetic": Wording(
            "Reward of y\u2032",
            "nats",
            "Look for lines that fall below those of the reward of y. Again only the course of "
            "each line compares.",
        ),
        "rewards/accuracies": Wording(
            "Reward of y above that of y\u2032",
            "share of samples",
            "Look for lines that rise towards 100% within each iteration.",
            share=True,
        ),
        "rewards/higher_but_less_likely": Wording(
            "Higher reward, yet less likely",
            "share of samples",
            "Samples where y has the higher reward but the lower likelihood than y\u2032: look for "
            "lines at or near zero; what is above it is trained on but would not be generated.",
            share=True,
        ),
        "rewards/saturated": Wording(
            "Saturated: no gradient left",
            "share of samples",
            "Look for lines that stay away from 100%, where training stands still.",
            share=True,
        ),
    }
)
"""By name of a curve of compare.json."""

HELDOUT_GAPS: Mapping[str, str] = MappingProxyType(
    {
        "annotated_synthetic": "Look for lines that rise towards zero or above it: y catches up "
        "with what the policy itself writes, sampled anew after each iteration.",
        "synthetic_proto_synthetic": "Look for lines above zero that do not fall back: the policy "
        "prefers what it writes now to what the initial policy wrote.",
    }
)
"""By name of a gap, what to look for on the held-out prompts."""

CLOSING_GAPS: Mapping[str, str] = MappingProxyType(
    {
        "annotated_synthetic": "On the triplets trained on, the mean over the last tenth of the "
        "steps: look for lines above zero at every iteration.",
        "synthetic_proto_synthetic": "On the triplets trained on, the mean over the last tenth of "
        "the steps: look for lines above zero. Only methods with a history term show it, from "
        "iteration 1 on: the others do not compute y\u2080 in training.",
    }
)
"""By name of a gap, what to look for at the end of training."""

EFFICIENCY = "Look for a method that on few records is where others only come on many."
