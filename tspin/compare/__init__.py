"""Methods side by side on one model and one set of data: runs, costs, paired differences."""

from tspin.compare.arms import Arm, parse_arms
from tspin.compare.step import Comparison, compare

__all__ = ["Arm", "Comparison", "compare", "parse_arms"]
