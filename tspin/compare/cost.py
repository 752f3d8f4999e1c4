"""What a run has cost: tokens generated and trained, floating-point operations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tspin.config import RunConfig
from tspin.forward.flops import PassFlops
from tspin.models.configuration import token_limit
from tspin.models.shape import empty_model
from tspin.records.records import Response, read_records
from tspin.records.samples import selection
from tspin.runs.folder import RunFolder
from tspin.tokens.examples import Example, load_examples, roles_of
from tspin.tokens.loading import load_template
from tspin.train.reference import needs_reference

__all__ = ["Cost", "Meter"]


@dataclass(frozen=True)
class Cost:
    """Of a whole run; evaluation is left out."""

    generated_tokens: int = 0
    """Of y0 and of every y', end tokens not counted."""
    trained_tokens: int = 0
    """Through forward and backward passes: a prompt once with all different responses to it."""
    flops: float = 0.0
    """Of generation, reference passes and training together, by count (docs/guides/compare.md)."""

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.generated_tokens + other.generated_tokens,
            self.trained_tokens + other.trained_tokens,
            self.flops + other.flops,
        )


class Meter:
    """Counts costs of runs of one model; nothing is measured, so equal runs cost the same."""

    def __init__(self, config: RunConfig) -> None:
        """Read the model's sizes and its tokenizer, no weights.

        Raises:
            InputError: there is no such model.
        """
        sizes = PassFlops.of_model(empty_model(config.model))
        self._sizes = replace(sizes, trained=config.train.lora is None)
        self._template = load_template(config.model.path, config.model, config.prompt)

    def epoch(self, config: RunConfig, annotated: Path) -> Cost:
        """One epoch of supervised fine-tuning on annotated records."""
        return self._training(config, annotated, 0, method="sft", epochs=1)

    def run(self, config: RunConfig, folder: RunFolder, annotated: Path, iterations: int) -> Cost:
        """A run as far as it came.

        Args:
            config: Of the run.
            folder: Of the run.
            annotated: What the run was trained on.
            iterations: How many iterations there were.
        """
        train = config.train
        if train.method == "sft":
            one = self._training(config, annotated, 0, method="sft", epochs=train.epochs)
            return sum([one] * iterations, Cost())
        total = Cost()
        for iteration in range(iterations):
            outputs = folder.iteration(iteration)
            total += self._generation(outputs.synthetic)
            total += self._training(
                config, outputs.triplets, iteration, method=train.method, epochs=train.epochs
            )
        return total

    def _generation(self, path: Path) -> Cost:
        tokens, flops = 0, 0.0
        for response in read_records(path, Response):
            tokens += response.response_tokens
            responses = [response.response_tokens + 1]
            flops += self._sizes.of_lengths(response.prompt_tokens, responses, backward=False)
        return Cost(generated_tokens=tokens, flops=flops)

    def _training(
        self, config: RunConfig, path: Path, iteration: int, *, method: Any, epochs: int
    ) -> Cost:
        train = config.train.model_copy(update={"method": method})
        examples = load_examples(
            path,
            self._template,
            roles=roles_of(train, iteration),
            max_length=token_limit(config.model.path, config.model, config.prompt),
            over_long=config.prompt.over_long,
            selection=selection(method, train.rft_extractor, train.rft_cap),
            demonstration=train.demonstration,
        )
        rows = [(len(row.prompt), _different(row)) for row in examples.rows]
        forward = sum(self._sizes.of_lengths(*row, backward=False) for row in rows)
        passes = sum(self._sizes.of_lengths(*row, backward=True) for row in rows)
        reference = forward if needs_reference(method) else 0.0
        reference += epochs * sum(self._taught(row) for row in examples.rows)
        tokens = sum(prompt + sum(responses) for prompt, responses in rows)
        return Cost(trained_tokens=epochs * tokens, flops=epochs * passes + reference)

    def _taught(self, row: Example) -> float:
        """Operations of a teacher's pass over the y' of an example."""
        if row.teacher_prompt is None:
            return 0.0
        played = _different(replace(row, responses=row.responses[1:]))
        return self._sizes.of_lengths(len(row.teacher_prompt), played, backward=False)


def _different(row: Example) -> list[int]:
    """Lengths of the different responses: training packs equal ones once."""
    return list({response.tobytes(): len(response) for response in row.responses}.values())
