"""Annotated data: import from other tools' formats, validation, the held-out split."""

from tspin.data.checks import DEFAULT_MAX_CHARS
from tspin.data.counts import ImportSummary
from tspin.data.formats.known import FORMATS
from tspin.data.importing import import_records, source_hash
from tspin.data.rows.hub import HubDataset, hub_dataset
from tspin.data.rows.problems import Flaw, Place, Problem, Reason
from tspin.data.screening import Choices
from tspin.data.split import SplitCounts, split_records
from tspin.data.validate import ValidationReport, validate_records

__all__ = [
    "DEFAULT_MAX_CHARS",
    "FORMATS",
    "Choices",
    "Flaw",
    "HubDataset",
    "ImportSummary",
    "Place",
    "Problem",
    "Reason",
    "SplitCounts",
    "ValidationReport",
    "hub_dataset",
    "import_records",
    "source_hash",
    "split_records",
    "validate_records",
]
