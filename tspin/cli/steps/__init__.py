"""One command a step: generate, build-triplets, train, evaluate, and what puts shards together."""

from tspin.cli.steps.evaluation import evaluate, fetch_tasks, merge_evaluations
from tspin.cli.steps.generation import generate, merge_responses
from tspin.cli.steps.training import build_triplets, train

__all__ = [
    "build_triplets",
    "evaluate",
    "fetch_tasks",
    "generate",
    "merge_evaluations",
    "merge_responses",
    "train",
]
