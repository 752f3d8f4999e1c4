"""One command a step: generate, build-triplets, train, evaluate, and what puts shards together."""

from tspin.cli.steps.evaluation import evaluate, fetch_tasks, merge_evaluations
from tspin.cli.steps.generation import generate, merge_responses
from tspin.cli.steps.training import build_triplets, train

__all__ = ["COMMANDS", "PANEL"]

PANEL = "Single steps"

COMMANDS = (
    generate,
    merge_responses,
    build_triplets,
    train,
    evaluate,
    merge_evaluations,
    fetch_tasks,
)
