"""What each protocol's search tries; where the form is known, also what the first left open."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.reproduction.protocol import CONTROL, TSPIN
from benchmarks.reproduction.regimes import NEW, Part, Regime, Search

__all__ = ["ANSWER", "SEARCHES"]

ANSWER = "ANSWER"
"""Stands for the extractor that finds a skill's answer in any wording."""
COPIES = 4

_FROM_BASE: Mapping[str, Regime] = {
    "papers": Regime(TSPIN),
    "gentle": Regime(TSPIN, rates=(0.3,)),
    "alpha_tenth": Regime(TSPIN, {"train.alpha": 0.1}),
    "wrong_only": Regime(TSPIN, {"triplets.same_answer": ANSWER}),
    "sft_weight_10": Regime(TSPIN, {"train.sft_weight": 10.0}, paced=CONTROL),
    "sft_weight_100": Regime(TSPIN, {"train.sft_weight": 100.0}, paced=CONTROL),
    "sft_weight_100_gentle": Regime(TSPIN, {"train.sft_weight": 100.0}, (0.3,), CONTROL),
    "normalised": Regime(
        TSPIN, {"train.length_normalised": True, "train.sft_weight": 1.0}, paced=CONTROL
    ),
    "matched": Regime(CONTROL),
    "matched_gentle": Regime(CONTROL, rates=(0.3,)),
    "matched_gentler": Regime(CONTROL, rates=(0.1,)),
}

_SEVERAL: Mapping[str, Regime] = {
    "several": Regime("tspin", paced=TSPIN),
    "several_wrong_only": Regime("tspin", {"triplets.same_answer": ANSWER}, paced=TSPIN),
    "several_sft_weight_10": Regime("tspin", {"train.sft_weight": 10.0}, paced=CONTROL),
    "several_matched": Regime("sft_matched", paced=CONTROL),
}
"""Several y' a prompt: every record stands there as often, under other ids."""

KNOWN = Search(_FROM_BASE, {"several": Part(_SEVERAL, copies=COPIES)})
"""On bases that know the annotator's form."""
SEARCHES = {"new": NEW, "known": KNOWN}
"""By `Protocol.search`."""
