"""Nothing of the user's is overwritten: the rule that every command with an output keeps."""

from tspin.outputs.recognition import (
    Recognition,
    artifact_folder,
    begins_with,
    checkpoint_folder,
    comparison_folder,
    copy_of,
    equal_to,
    history_folder,
    made_from,
    never_ours,
    registry_folder,
    report_page,
    run_folder,
)
from tspin.outputs.rule import check_output

__all__ = [
    "Recognition",
    "artifact_folder",
    "begins_with",
    "check_output",
    "checkpoint_folder",
    "comparison_folder",
    "copy_of",
    "equal_to",
    "history_folder",
    "made_from",
    "never_ours",
    "registry_folder",
    "report_page",
    "run_folder",
]
