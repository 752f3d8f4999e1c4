"""Retraining from CI: what was pushed is checked, run, reported and promoted through the gate."""

from tspin.retrain.request import Retraining
from tspin.retrain.steps import retrain

__all__ = ["Retraining", "retrain"]
