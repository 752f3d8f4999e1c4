"""Retraining from CI: what was pushed is checked, run, reported and promoted through the gate."""

from tspin.retrain.outcome import Outcome
from tspin.retrain.request import Retraining
from tspin.retrain.steps import retrain

__all__ = ["Outcome", "Retraining", "retrain"]
